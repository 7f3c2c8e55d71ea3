"""Fine-tuning: the whole network with a new head (the main protocol of KRR-ST, section 5)."""

from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from datastill.augment.crop_flip import CropFlip
from datastill.batches import Batches
from datastill.ground.loop import run_steps
from datastill.ground.options import check_bounds, option
from datastill.ground.rng import fork, seeded
from datastill.images import ImageSet
from datastill.maths.metrics import accuracy_percent
from datastill.maths.optimizers import Sgd
from datastill.maths.schedules import Cosine, set_rates
from datastill.networks._base import Network, copy_body
from datastill.transfer._base import AbstractTask, Measured, Start, TaskData, in_batches
from datastill.transfer._labels import check_labels, choose_labelled


@dataclass
class FinetuneState:
    """What changes during fine-tuning; whole in every checkpoint."""

    network: Network
    optimizer: torch.optim.Optimizer
    batches: Batches
    views: Generator


@dataclass(frozen=True)
class Finetune(AbstractTask):
    """SGD with a cosine schedule on cropped and flipped images; the last iterate is judged."""

    steps: int = option(
        10_000, "updates (the paper: 5,000 for Aircraft, Cars, CUB, Dogs, Flowers)", at_least=1
    )
    batch: int = option(256, "images per update", at_least=1)
    lr: float = option(0.01, "SGD learning rate", above=0)
    momentum: float = option(0.9, "SGD momentum", at_least=0, below=1)
    weight_decay: float = option(5e-4, "SGD weight decay", at_least=0)
    crop_padding: int = option(4, "random crops after this zero padding; 0: none", at_least=0)
    flip: bool = option(True, "random horizontal flips")
    labels: tuple[str, ...] = option(("all",), "labelled images: all, 10%, or 5-per-class")

    def __post_init__(self) -> None:
        check_labels(self.labels)
        check_bounds(self)

    def check(self, data: TaskData) -> None:
        for labels in self.labels:
            choose_labelled(data, labels, seed=0)  # raises where there are too few

    def measure(self, start: Start, data: TaskData) -> list[Measured]:
        found = []
        for labels in self.labels:
            train = choose_labelled(data, labels, start.seed)
            saving = start.saving and start.saving.part(labels)
            network = self._train(replace(start, saving=saving), train, data)
            logits = in_batches(network, data.test, start.machine)
            accuracy = accuracy_percent(logits.cpu(), _labels(data.test))
            setting = "" if labels == "all" else labels
            found.append(Measured(setting, accuracy, None, self.steps))
        return found

    def _train(self, start: Start, train: ImageSet, data: TaskData) -> Network:
        with seeded(start.seed, "new-head", data.name):
            network = start.architecture(
                image_size=train.image_size, channels=train.channels, outputs=train.num_classes
            )
        copy_body(start.network, into=network)
        start.machine.place(network)
        optimizer = Sgd(self.lr, self.momentum, self.weight_decay).make(network.parameters())
        state = FinetuneState(
            network,
            optimizer,
            Batches.over(len(train), fork(start.seed, "fine-tuning-batches", data.name)),
            fork(start.seed, "fine-tuning-views", data.name),
        )
        step = partial(self._step, start, state, train)
        run_steps("fine-tune", state, step, length=self.steps, saving=start.saving)
        return network.eval()

    def _step(
        self, start: Start, state: FinetuneState, train: ImageSet, step: int
    ) -> dict[str, Tensor]:
        index = state.batches.draw(self.batch)
        crop_flip = CropFlip(self.crop_padding, self.flip)
        pixels = train.images[index].to(start.machine.device)
        seen = crop_flip(pixels, crop_flip.draw(len(index), state.views))
        x, y = train.normalizer(seen.float() / 255), _labels(train)[index].to(start.machine.device)
        set_rates(state.optimizer, Cosine(), step, self.steps)
        state.network.train()
        loss = F.cross_entropy(start.machine.run(state.network, x), y)
        state.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        state.optimizer.step()
        return {"loss": loss.detach()}


def _labels(images: ImageSet) -> Tensor:
    assert images.labels is not None, "TaskData is checked to be labelled"
    return images.labels
