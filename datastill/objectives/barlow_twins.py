"""Barlow Twins: self-supervised learning via redundancy reduction (Zbontar et al., ICML 2021)."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from datastill.core.options import option
from datastill.objectives.objective import JointEmbedding, check_pairs, mlp, off_diagonal


@dataclass(frozen=True)
class BarlowTwins(JointEmbedding):
    """Make the cross-correlation matrix of the two views' projections the identity.

    With ẑ the projections standardised over the batch, column by column, and C = ẑ_aᵀ ẑ_b / B,
    (P, P), the loss is scale · (Σᵢ (1 - Cᵢᵢ)² + redundancy · Σᵢ≠ⱼ Cᵢⱼ²).

    Args:
        projector: Widths of the projector's layers; none compares the representation itself.
        redundancy: Weight of the off-diagonal terms, λ of the paper.
        scale: Factor on the whole loss.

    Raises:
        ConfigError: An option is outside its range.

    Example:
        >>> import torch
        >>> z_a = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> round(float(BarlowTwins().compare(z_a, z_a)), 4)  # perfect: C is the identity
        0.0
        >>> round(float(BarlowTwins().compare(z_a, -z_a)), 2)  # (1 - (-1))² twice
        8.0
    """

    projector: tuple[int, ...] = option(
        (2048, 2048, 2048),
        "widths of the projector's layers; none = the representation itself",
        at_least=1,
    )
    redundancy: float = option(
        0.005, "weight of the off-diagonal terms, λ of the paper", at_least=0
    )
    scale: float = option(1.0, "factor on the whole loss", above=0)

    def head(self, dim: int) -> nn.Module:
        return mlp(dim, self.projector)

    def compare(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        # batch norm without affine parameters, as the released code standardises
        z_a, z_b = (
            F.batch_norm(z, None, None, training=True, eps=1e-5) for z in check_pairs(z_a, z_b)
        )
        correlation = z_a.T @ z_b / len(z_a)
        invariance = (1 - correlation.diagonal()).square().sum()
        redundancy = off_diagonal(correlation).square().sum()
        return self.scale * (invariance + self.redundancy * redundancy)
