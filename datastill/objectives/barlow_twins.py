"""Barlow Twins: self-supervised learning via redundancy reduction (Zbontar et al., ICML 2021)."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from datastill.ground.errors import ConfigError
from datastill.ground.options import check_bounds, option
from datastill.objectives._base import AbstractObjective, at_least_float32, check_views


@dataclass(frozen=True)
class BarlowTwins(AbstractObjective):
    """Make the cross-correlation matrix of the two views' projections the identity."""

    projector: tuple[int, ...] = option(
        (2048, 2048, 2048), "widths of the projector's layers; none = the representation itself"
    )
    redundancy: float = option(
        0.005, "weight of the off-diagonal terms, λ of the paper", at_least=0
    )
    scale: float = option(1.0, "factor on the whole loss", above=0)

    def __post_init__(self) -> None:
        check_bounds(self)
        if any(width < 1 for width in self.projector):
            raise ConfigError(f"projector={self.projector} must be widths of one or more")

    def head(self, dim: int) -> nn.Module:
        """Linear, batch norm and ReLU for all widths but the last, which is linear; no biases."""
        layers: list[nn.Module] = []
        for width in self.projector:
            layers += [nn.Linear(dim, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(True)]
            dim = width
        return nn.Sequential(*layers[:-2])

    def loss(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        """scale · (Σᵢ (1 - Cᵢᵢ)² + redundancy · Σᵢ≠ⱼ Cᵢⱼ²), where C = ẑ_aᵀ ẑ_b / B, (P, P).

        ẑ is z standardised over the batch, column by column, as by batch normalization without
        affine parameters.
        """
        check_views(z_a, z_b)
        correlation = _standardised(z_a).T @ _standardised(z_b) / len(z_a)
        invariance = (1 - correlation.diagonal()).square().sum()
        redundancy = _off_diagonal(correlation).square().sum()
        return self.scale * (invariance + self.redundancy * redundancy)


def _standardised(z: Tensor) -> Tensor:  # (B, P) -> (B, P)
    return F.batch_norm(at_least_float32(z), None, None, training=True, eps=1e-5)


def _off_diagonal(square: Tensor) -> Tensor:  # (P, P) -> (P·(P - 1),)
    """All but the diagonal: in rows of P + 1 the diagonal is the first column."""
    size = len(square)
    return square.flatten()[:-1].view(size - 1, size + 1)[:, 1:].flatten()
