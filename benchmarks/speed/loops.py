"""The loops around the outer step: a plain PyTorch loop of each, and ours; in one run.

python benchmarks/speed/loops.py --steps 8 --rounds 7 --out loops.csv [--only NAME] [--device D]

The plain loop is the one of tutorials: a Dataset that augments and normalizes one image at a time,
a DataLoader, float32, NCHW. Pre-training and fine-tuning take the paper's ConvNet, batch 256 and
SGD, inner steps the same network and all of 100 distilled images. Target training takes a ResNet-18
under Barlow Twins, batch 64 and a quarter of the steps, the bank all views of 4 images by a
ResNet-18.
"""

import argparse
from collections.abc import Callable, Iterable
from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from interleaved import Contestant, Race
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, TensorDataset

import datastill as ds
from datastill.augment.crop_flip import CropFlip
from datastill.core.machine import Machine, PrecisionName
from datastill.distilled_set import DistilledSet
from datastill.images import ImageSet, Normalizer
from datastill.methods._pool import ModelPool
from datastill.ops.optimizers import Sgd
from datastill.target_cache import TargetCache
from datastill.transfer.task import TaskContext

BATCH = 256
TARGET_BATCH = 64
PRECISIONS: tuple[PrecisionName, ...] = ("float32", "bfloat16")


class OneByOne(Dataset[tuple[Tensor, Tensor]]):
    """Labelled images, each cropped, flipped and normalized when it is read."""

    def __init__(self, images: ImageSet) -> None:
        assert images.labels is not None
        self.images, self.labels = images, images.labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = F.pad(self.images.images[index].float() / 255, (4, 4, 4, 4))
        row, column = torch.randint(9, (2,)).tolist()
        size = self.images.image_size
        image = image[:, row : row + size, column : column + size]
        if torch.rand(()) < 0.5:
            image = image.flip(2)
        return self.images.normalizer(image[None])[0], self.labels[index]


class TwoByTwo(Dataset[tuple[Tensor, Tensor]]):
    """Two views of each image, made when it is read."""

    def __init__(self, images: ImageSet, views: ds.TwoViews) -> None:
        self.images, self.views = images, views
        self.generator = torch.Generator().manual_seed(0)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        pair = self.views(self.images.unit_pixels(slice(index, index + 1)), self.generator)
        view_a, view_b = map(self.images.normalizer, pair)
        return view_a[0], view_b[0]


def machines(device: str) -> dict[str, Machine]:
    """The precisions in which ours computes."""
    return {f"ours, {precision}": Machine(device, precision) for precision in PRECISIONS}


def plain(
    network: nn.Module,
    loader: Iterable[tuple[Tensor, ...]],
    loss: Callable[[Tensor, Tensor], Tensor],
    steps: int,
    device: str,
) -> None:
    """`steps` updates by SGD."""
    network.to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    batches = iter(loader)
    network.train()
    for _ in range(steps):
        try:
            x, y = next(batches)
        except StopIteration:
            batches = iter(loader)
            x, y = next(batches)
        optimizer.zero_grad()
        loss(network(x.to(device)), y.to(device)).backward()
        optimizer.step()


def synthetic_images(count: int) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), generator=generator).to(torch.uint8)
    classes, labels = tuple(map(str, range(10))), torch.arange(count) % 10
    return ImageSet("made/train", pixels, Normalizer((0.5,) * 3, (0.25,) * 3), labels, classes)


def inner_steps(steps: int, device: str) -> dict[str, Contestant]:
    """Of one member of KRR-ST's pool, on 100 distilled images with 512 target numbers each."""
    x, y = torch.randn(100, 3, 32, 32).to(device), torch.randn(100, 512).to(device)
    network = ds.ConvNet()(image_size=32, channels=3, outputs=512)
    contestants: dict[str, Contestant] = {
        "plain loop": lambda: plain(network, [(x, y)], F.mse_loss, steps, device)
    }
    for name, machine in machines(device).items():
        problem = ds.Problem(synthetic_images(100), None, 100, machine=machine)
        pool = ModelPool(
            problem,
            outputs=512,
            networks=[problem.network],
            max_age=2**62,
            optimizer=Sgd(0.01, 0.9, 5e-4),
            loss=F.mse_loss,
        )
        contestants[name] = lambda pool=pool: [  # type: ignore[misc]
            pool.train_or_replace(0, x, y) for _ in range(steps)
        ]
    return contestants


def pretraining(steps: int, device: str) -> dict[str, Contestant]:
    """On 1,000 distilled images with 512 target numbers each."""
    images, targets = synthetic_images(1000), torch.randn(1000, 512)
    distilled = DistilledSet(
        images.unit_pixels(slice(None)),
        targets,
        target_kind="representation",
        pixel_space="unit",
        normalizer=images.normalizer,
        provenance={},
    )
    pairs = TensorDataset(distilled.network_input(), targets)
    loader = DataLoader(pairs, BATCH, shuffle=True, drop_last=True)
    network = ds.ConvNet()(image_size=32, channels=3, outputs=512)
    contestants: dict[str, Contestant] = {
        "plain loop": lambda: plain(network, loader, F.mse_loss, steps, device)
    }
    rows = ds.Pretraining(batch=250, steps=steps)
    for name, machine in machines(device).items():
        contestants[name] = lambda m=machine: ds.pretrain(  # type: ignore[misc]
            ds.ConvNet(), distilled, pretraining=rows, machine=m
        )
    return contestants


def finetuning(steps: int, device: str) -> dict[str, Contestant]:
    """On 10,000 labelled images, cropped and flipped; tested on 2 images at the end."""
    train, test = synthetic_images(10_000), synthetic_images(20).take(torch.arange(2))
    data = ds.TaskData("made", train, test)
    loader = DataLoader(OneByOne(train), BATCH, shuffle=True)
    network = ds.ConvNet()(image_size=32, channels=3, outputs=10)
    contestants: dict[str, Contestant] = {
        "plain loop": lambda: plain(network, loader, F.cross_entropy, steps, device)
    }
    for name, machine in machines(device).items():
        placed = machine.to_device(ds.ConvNet()(image_size=32, channels=3, outputs=512))
        start = TaskContext(placed, ds.ConvNet(), 0, machine)
        contestants[name] = lambda s=start: ds.Finetune(steps=steps).measure(s, data)  # type: ignore[misc]
    return contestants


def target_training(steps: int, device: str) -> dict[str, Contestant]:
    """On 1,000 images, seen in two views."""
    images = synthetic_images(1000)
    training = ds.TargetTraining(batch=TARGET_BATCH, steps=max(1, steps // 4))
    loader = DataLoader(TwoByTwo(images, training.views), TARGET_BATCH, shuffle=True)
    network = ds.ResNet18()(image_size=32, channels=3, outputs=None).to(device)
    heads = training.objective.heads(network, 0).to(device)
    trained = [*network.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=1e-4)

    def plain_loop() -> None:
        for _, (view_a, view_b) in zip(range(training.length(1000)), loader, strict=False):
            z_a, z_b = (heads(network(view.to(device))) for view in (view_a, view_b))
            optimizer.zero_grad()
            training.objective.compare(z_a, z_b).backward()
            optimizer.step()

    contestants: dict[str, Contestant] = {"plain loop": plain_loop}
    for name, machine in machines(device).items():
        contestants[name] = lambda m=machine: ds.train_target(  # type: ignore[misc]
            images, training, machine=m
        )
    return contestants


def bank_filling(steps: int, device: str) -> dict[str, Contestant]:
    """All representations of the crops and flips of 4 images; the number of steps is not used."""
    images, crop_flip = synthetic_images(4), CropFlip()
    network = ds.ResNet18()(image_size=32, channels=3, outputs=None).eval().to(device)
    each = ConcatDataset([OneByOne(images)] * crop_flip.views)
    loader = DataLoader(each, TARGET_BATCH)

    @torch.no_grad()
    def plain_loop() -> None:
        for x, _ in loader:
            network(x.to(device))

    contestants: dict[str, Contestant] = {"plain loop": plain_loop}
    for name, machine in machines(device).items():
        target = ds.TargetModel(deepcopy(network), images.normalizer, 32, machine=machine)
        contestants[name] = lambda t=target: TargetCache(  # type: ignore[misc]
            t, images, crop_flip, mode="full"
        )
    return contestants


LOOPS = {
    "inner steps": inner_steps,
    "pre-training": pretraining,
    "fine-tuning": finetuning,
    "target training": target_training,
    "bank filling": bank_filling,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", choices=tuple(LOOPS))
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    chosen = [arguments.only] if arguments.only else list(LOOPS)
    for name, running in ((name, LOOPS[name]) for name in chosen):
        race = Race.run(running(arguments.steps, arguments.device), arguments.rounds)
        case = {"loop": name, "steps": arguments.steps, "threads": torch.get_num_threads()}
        if arguments.out:
            race.append_to(arguments.out, case)
        print(name, *race.lines(), "", sep="\n")


if __name__ == "__main__":
    main()
