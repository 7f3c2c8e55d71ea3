"""VICReg: variance-invariance-covariance regularization (Bardes et al., ICLR 2022)."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from datastill.core.options import option
from datastill.objectives.objective import JointEmbedding, check_pairs, mlp, off_diagonal


@dataclass(frozen=True)
class VICReg(JointEmbedding):
    """Make both views agree, every column vary over the batch, and no two columns covary.

    The loss is λ s(a, b) + μ (v(a) + v(b)) + ν (c(a) + c(b)), algorithm 1 of the paper: s is the
    mean square over images and columns, v the mean over columns of max(0, 1 - √(Var + 1e-4)), c
    the sum of squared covariances divided by P.

    Args:
        projector: Widths of the expander's layers; none compares the representation itself.
        invariance: Weight λ of the distance of the views.
        variance: Weight μ of the variance terms.
        covariance: Weight ν of the covariance terms.

    Raises:
        ConfigError: An option is outside its range.

    Example:
        >>> import torch
        >>> z = 2 * torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> round(float(VICReg().compare(z, z)), 4)  # equal views, wide and uncorrelated columns
        0.0
        >>> round(float(VICReg(variance=1.0).compare(0 * z, 0 * z)), 2)  # collapsed
        1.98
    """

    projector: tuple[int, ...] = option(
        (2048, 2048, 2048),
        "widths of the expander's layers, 8192 thrice in the paper; none = the representation",
        at_least=1,
    )
    invariance: float = option(25.0, "weight of the distance of views, λ of the paper", at_least=0)
    variance: float = option(
        25.0, "weight of the variance, μ; the released code halves the term: 12.5", at_least=0
    )
    covariance: float = option(1.0, "weight of the covariances, ν of the paper", at_least=0)

    def head(self, dim: int) -> nn.Module:
        return mlp(dim, self.projector)

    def compare(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        z_a, z_b = check_pairs(z_a, z_b)
        return (
            self.invariance * F.mse_loss(z_a, z_b)
            + self.variance * (_variance(z_a) + _variance(z_b))
            + self.covariance * (_covariance(z_a) + _covariance(z_b))
        )


def _variance(z: Tensor) -> Tensor:  # (B, P) -> ()
    return F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean()


def _covariance(z: Tensor) -> Tensor:  # (B, P) -> ()
    centred = z - z.mean(0)
    covariance = centred.T @ centred / (len(z) - 1)
    return off_diagonal(covariance).square().sum() / z.shape[1]
