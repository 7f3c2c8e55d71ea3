"""What an objective of a target model implements, and the batch that it receives."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from datastill.core.errors import DataError
from datastill.core.machine import Machine
from datastill.core.options import check_bounds
from datastill.networks.architecture import Network


@dataclass(frozen=True, eq=False)
class Views:
    """Two views of each image of a batch on this rank, and the labels if the source has them.

    Args:
        pixels: (2B, C, H, W) normalized: view a of all images, then view b.
        labels: (B,) int64, or None.
        machine: Device, precision and ranks.
    """

    pixels: Tensor
    labels: Tensor | None = None
    machine: Machine = field(default_factory=Machine)

    def encode_and_gather(self, network: Callable[[Tensor], Tensor]) -> Tensor:
        """Encode both views and gather the outputs of *all* ranks.

        Every rank then computes the loss of the joined batch, as one process would: batch
        statistics of projectors and comparisons between images include the images of all ranks.

        Args:
            network: Maps (2B, C, H, W) to (2B, D).

        Returns:
            (2·B·ranks, D) in float32 or better: view a of all images, then view b.
        """
        outputs = self.machine.forward(network, self.pixels)
        pairs = outputs.view(2, -1, outputs.shape[-1])
        return self.machine.ranks.gather(pairs, dim=1).flatten(0, 1)

    def all_labels(self) -> Tensor:
        """Gather the labels of the images of all ranks, (B·ranks,) int64.

        Raises:
            DataError: The batch has no labels.
        """
        if self.labels is None:
            raise DataError("this objective needs labels, and the batch has none")
        return self.machine.ranks.gather(self.labels)


@dataclass(frozen=True)
class Objective(ABC):
    """A loss on two views of a batch, and the heads through which it is computed.

    Subclass it in a new file of `datastill/objectives` to add an objective; its fields are its
    options. Heads are trained along with the network, except for parameters that require no
    gradient, and discarded afterwards: the target model is the network below them.

    Example:
        >>> from datastill.networks.convnet import ConvNet
        >>> class Agreement(Objective):
        ...     def heads(self, network, num_classes):
        ...         return nn.Linear(network.outputs, 8)
        ...     def loss(self, heads, network, views):
        ...         z_a, z_b = heads(views.encode_and_gather(network)).chunk(2)
        ...         return (z_a - z_b).square().mean()
        >>> network = ConvNet(widths=(4, 8))(image_size=8, channels=1, outputs=None)
        >>> heads = Agreement().heads(network, num_classes=0)
        >>> Agreement().loss(heads, network, Views(torch.rand(10, 1, 8, 8))).shape
        torch.Size([])
    """

    needs_labels: ClassVar[bool] = False  # whether the source must have labels

    def __post_init__(self) -> None:
        check_bounds(self)

    @abstractmethod
    def heads(self, network: Network, num_classes: int) -> nn.Module:
        """Make new heads, with weights from torch's global generator.

        Args:
            network: The network below the heads; it gives `network.outputs` numbers per image.
            num_classes: Classes of the source, 0 if it has no labels.
        """

    @abstractmethod
    def loss(self, heads: nn.Module, network: Network, views: Views) -> Tensor:
        """Compute the scalar to minimise; it must be equal on all ranks.

        Args:
            heads: Made by `heads`.
            network: The network that is trained.
            views: The batch.

        Raises:
            DataError: There are fewer than two images, or labels are needed and missing.
        """

    def after_step(  # noqa: B027 - most objectives need nothing here
        self, heads: nn.Module, network: Network, *, progress: float
    ) -> None:
        """Update what no optimizer updates; the default does nothing.

        Args:
            heads: Made by `heads`.
            network: The network after the optimizer's update.
            progress: k / K after update k, counted from 0, of K.
        """


@dataclass(frozen=True)
class JointEmbedding(Objective):
    """An objective that compares the projections of both views, made by one projector."""

    @abstractmethod
    def head(self, dim: int) -> nn.Module:
        """Make a new projector (B, D) -> (B, P), D being `dim`."""

    @abstractmethod
    def compare(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        """Compute the loss of the projections of two views of the same images.

        Call it outside of autocast: its sums need float32.

        Args:
            z_a: (B, P) projections of view a, B at least 2.
            z_b: (B, P) projections of view b.

        Returns:
            A scalar.

        Raises:
            DataError: The shapes differ, or there are fewer than two images.
        """

    @final
    def heads(self, network: Network, num_classes: int) -> nn.Module:
        return self.head(network.outputs)

    @final
    def loss(self, heads: nn.Module, network: Network, views: Views) -> Tensor:
        # both views in one batch, so that batch norms of the projector see both
        z_a, z_b = heads(views.encode_and_gather(network)).chunk(2)
        return self.compare(z_a, z_b)


def mlp(dim: int, widths: tuple[int, ...], *, batch_norm: bool = True) -> nn.Sequential:
    """Make a projector: linear, batch norm and ReLU for all widths but the last, which is linear.

    Args:
        dim: Width of the input.
        widths: Width of each layer; none makes the identity.
        batch_norm: False leaves batch norm out and gives the linear layers biases instead.
    """
    layers: list[nn.Module] = []
    for width in widths:
        layers.append(nn.Linear(dim, width, bias=not batch_norm))
        layers += [nn.BatchNorm1d(width)] if batch_norm else []
        layers.append(nn.ReLU(True))
        dim = width
    return nn.Sequential(*layers[: -2 if batch_norm else -1])


def off_diagonal(square: Tensor) -> Tensor:  # (P, P) -> (P·(P - 1),)
    """Return all entries but the diagonal."""
    size = len(square)
    # without its last entry and in rows of P + 1, the first column is the diagonal
    return square.flatten()[:-1].view(size - 1, size + 1)[:, 1:].flatten()


def check_pairs(z_a: Tensor, z_b: Tensor) -> tuple[Tensor, Tensor]:
    """Check the projections of both views; return them in float32, or float64 if they are.

    Raises:
        DataError: They are not (B, P) of one shape with B at least 2.
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
    dtype = torch.promote_types(z_a.dtype, torch.float32)
    return z_a.to(dtype), z_b.to(dtype)
