"""Supervised training of a classifier, used by fine-tuning and for teachers."""

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from datastill.augment.crop_flip import CropFlip
from datastill.batches import Batches
from datastill.core.loop import run_steps
from datastill.core.machine import Machine
from datastill.core.rng import fork, seeded
from datastill.images import ImageSet
from datastill.networks.architecture import Architecture, Network, copy_body
from datastill.networks.train_step import train_step
from datastill.ops.optimizers import Sgd
from datastill.ops.schedules import Cosine, set_learning_rates
from datastill.transfer._labels import labels_of
from datastill.transfer.task import TaskContext, TaskData


@dataclass
class SupervisedState:
    """Everything that changes during supervised training; a checkpoint stores all of it."""

    network: Network
    optimizer: torch.optim.Optimizer
    batches: Batches
    views: Generator


@dataclass(frozen=True)
class Supervised:
    """SGD with a cosine schedule on cropped and flipped images, without early stopping."""

    steps: int
    batch: int
    optimizer: Sgd
    crop_flip: CropFlip

    def train(
        self, network: Network, images: ImageSet, *, context: TaskContext, name: str, data: str
    ) -> Network:
        """Train a network in place and return it in evaluation mode.

        Args:
            network: On the device of `context.machine`.
            images: Labelled images.
            context: Gives seed, machine and checkpoint.
            name: Name of the training in logs and, with `data`, of its random streams.
            data: Name of the data.
        """
        state = SupervisedState(
            network,
            self.optimizer.make(network.parameters()),
            Batches.over(len(images), fork(context.seed, f"{name}-batches", data)),
            fork(context.seed, f"{name}-views", data),
        )
        step = partial(self._step, context.machine, state, images)
        run_steps(name, state, step, length=self.steps, saving=context.saving)
        return network.eval()

    def _step(
        self, machine: Machine, state: SupervisedState, images: ImageSet, step: int
    ) -> dict[str, Tensor]:
        index = state.batches.draw(self.batch)
        pixels = images.pixels(index, machine.device)  # (B, C, H, W) uint8
        pixels = self.crop_flip(pixels, self.crop_flip.draw(len(index), state.views))
        x, y = images.normalizer(pixels.float() / 255), machine.to_device(labels_of(images)[index])
        set_learning_rates(state.optimizer, Cosine(), step, self.steps)
        loss = train_step(state.network, state.optimizer, F.cross_entropy, x, y, machine)
        return {"loss": loss}


def with_new_head(context: TaskContext, data: TaskData) -> Network:
    """Return a copy of the network whose head is new and has one output per class of the data."""
    with seeded(context.seed, "new-head", data.name):
        network = new_classifier(context.architecture, data)
    copy_body(context.network, into=network)
    return context.machine.to_device(network)


def new_classifier(architecture: Architecture, data: TaskData) -> Network:
    """Make a network for the images of the data, with one output per class."""
    train = data.train
    return architecture(
        image_size=train.image_size, channels=train.channels, outputs=train.num_classes
    )
