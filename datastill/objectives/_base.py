"""What every self-supervised objective of a target model supplies."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from datastill.ground.errors import DataError


@dataclass(frozen=True)
class AbstractObjective(ABC):
    """A loss on two views of a batch, and the projector that it is computed through.

    The projector is thrown away after training: the target model is what lies below it.
    """

    @abstractmethod
    def head(self, dim: int) -> nn.Module:
        """A fresh projector (B, D) -> (B, P), initialised from torch's global generator.

        Call it inside `ground.rng.seeded`.
        """

    @abstractmethod
    def loss(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        """The scalar to minimise, of projections (B, P) of two views of the same images.

        Call it outside of autocast: its sums need float32.

        Raises:
            DataError: the views are not two of one shape, or fewer than two images.
        """


def check_views(z_a: Tensor, z_b: Tensor) -> None:
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
