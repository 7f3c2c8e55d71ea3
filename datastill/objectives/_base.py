"""What every objective of a target model supplies, and what it sees of a batch."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from datastill.ground.errors import DataError
from datastill.ground.machine import Machine
from datastill.networks._base import Network


@dataclass(frozen=True, eq=False)
class Views:
    """Two views of a batch of images on this rank, and the labels where the source has them."""

    pixels: Tensor  # (2B, C, H, W) normalized: view a of all images, then view b
    labels: Tensor | None = None  # (B,) int64
    machine: Machine = field(default_factory=Machine)

    def through(self, network: Callable[[Tensor], Tensor]) -> Tensor:  # (2B, D)
        """What a network makes of both views of the images of *all* ranks, in float32 or better.

        Everything after it is computed by every rank alike, as if there were one process: batch
        statistics of projectors and comparisons between images are those of the joined batch.
        """
        outputs = self.machine.run(network, self.pixels)
        pairs = outputs.view(2, -1, outputs.shape[-1])
        return self.machine.world.gather(pairs, dim=1).flatten(0, 1)

    def all_labels(self) -> Tensor:  # (B,)
        """The labels of the images of all ranks.

        Raises:
            DataError: there are none.
        """
        if self.labels is None:
            raise DataError("this objective needs labels, and the batch has none")
        return self.machine.world.gather(self.labels)


@dataclass(frozen=True)
class AbstractObjective(ABC):
    """A loss on two views of a batch, and the heads that it is computed through.

    Heads are thrown away after training: the target model is what lies below them. Their parameters
    are trained along with the network's unless they ask for no gradient.
    """

    needs_labels: ClassVar[bool] = False  # whether the source must have labels

    @abstractmethod
    def heads(self, network: Network, num_classes: int) -> nn.Module:
        """Fresh heads on a network of D outputs, initialised from torch's global generator.

        Call it inside `ground.rng.seeded`.
        """

    @abstractmethod
    def loss(self, heads: nn.Module, network: Network, views: Views) -> Tensor:
        """The scalar to minimise; equal on all ranks.

        Raises:
            DataError: there are fewer than two images, or labels are needed and missing.
        """

    @abstractmethod
    def after_step(self, heads: nn.Module, network: Network, *, progress: float) -> None:
        """What else changes after update k of K (from 0), whose `progress` is k / K."""


def mlp(dim: int, widths: tuple[int, ...], *, batch_norm: bool = True) -> nn.Sequential:
    """Linear, batch norm and ReLU for all widths but the last, which is linear; no biases.

    Without batch norm the layers have biases. No widths: the identity.
    """
    layers: list[nn.Module] = []
    for width in widths:
        layers.append(nn.Linear(dim, width, bias=not batch_norm))
        layers += [nn.BatchNorm1d(width)] if batch_norm else []
        layers.append(nn.ReLU(True))
        dim = width
    return nn.Sequential(*layers[: -2 if batch_norm else -1])


def check_pairs(z_a: Tensor, z_b: Tensor) -> None:
    """Ask for two (B, P) of one shape with B ≥ 2.

    Raises:
        DataError: they are something else.
    """
    if z_a.ndim != 2 or z_a.shape != z_b.shape:
        raise DataError(
            "an objective takes projections of two views, both (B, P),"
            f" got {tuple(z_a.shape)} and {tuple(z_b.shape)}"
        )
    if len(z_a) < 2:
        raise DataError(
            f"an objective compares images with each other and got a batch of {len(z_a)};"
            " use a batch of two or more, and drop a last batch that is smaller"
        )


def at_least_float32(z: Tensor) -> Tensor:
    """Projections in float32, or float64 if they already are."""
    return z.to(torch.promote_types(z.dtype, torch.float32))
