"""Images per second of pre-training and fine-tuning: a plain PyTorch loop, and ours; in one run.

python benchmarks/speed/loops.py --steps 8 --rounds 7 --out speed-loops.csv

The plain loop is the one of tutorials: a Dataset that crops, flips and normalizes one image at a
time, a DataLoader, float32, NCHW. Both take the paper's ConvNet, batch 256 and SGD.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from interleaved import Contestant, Race
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import datastill as ds
from datastill.artefact import DistilledSet
from datastill.ground.machine import Machine
from datastill.images import ImageSet, Normalizer
from datastill.transfer._base import Start

BATCH = 256


class OneByOne(Dataset[tuple[Tensor, Tensor]]):
    """Labelled images, each cropped, flipped and normalized when it is asked for."""

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


def plain(
    network: nn.Module,
    loader: DataLoader[tuple[Tensor, ...]],
    loss: Callable[[Tensor, Tensor], Tensor],
    steps: int,
) -> None:
    """`steps` updates by SGD."""
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
        loss(network(x), y).backward()
        optimizer.step()


def made(count: int) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), generator=generator).to(torch.uint8)
    words, labels = tuple(map(str, range(10))), torch.arange(count) % 10
    return ImageSet("made/train", pixels, Normalizer((0.5,) * 3, (0.25,) * 3), labels, words)


def pretraining(steps: int) -> dict[str, Contestant]:
    """On 1,000 distilled images with 512 target numbers each."""
    images, targets = made(1000), torch.randn(1000, 512)
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
    found: dict[str, Contestant] = {"plain loop": lambda: plain(network, loader, F.mse_loss, steps)}
    rows = ds.Pretraining(batch=250, steps=steps)
    for precision in ("float32", "bfloat16"):
        machine = Machine(precision=precision)  # type: ignore[arg-type]
        found[f"ours, {precision}"] = lambda m=machine: ds.pretrain(  # type: ignore[misc]
            ds.ConvNet(), distilled, pretraining=rows, machine=m
        )
    return found


def finetuning(steps: int) -> dict[str, Contestant]:
    """On 10,000 labelled images, cropped and flipped; the accuracy of 2 is asked at the end."""
    train, test = made(10_000), made(20).take(torch.arange(2))
    data = ds.TaskData("made", train, test)
    loader = DataLoader(OneByOne(train), BATCH, shuffle=True)
    network = ds.ConvNet()(image_size=32, channels=3, outputs=10)
    found: dict[str, Contestant] = {
        "plain loop": lambda: plain(network, loader, F.cross_entropy, steps)
    }
    for precision in ("float32", "bfloat16"):
        machine = Machine(precision=precision)  # type: ignore[arg-type]
        placed = machine.place(ds.ConvNet()(image_size=32, channels=3, outputs=512))
        start = Start(placed, ds.ConvNet(), 0, machine)
        found[f"ours, {precision}"] = lambda s=start: ds.Finetune(steps=steps).measure(s, data)  # type: ignore[misc]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    for name, running in (("pre-training", pretraining), ("fine-tuning", finetuning)):
        race = Race.run(running(arguments.steps), arguments.rounds)
        case = {"loop": name, "steps": arguments.steps, "threads": torch.get_num_threads()}
        if arguments.out:
            race.append_to(arguments.out, case)
        print(name, *race.lines(), "", sep="\n")


if __name__ == "__main__":
    main()
