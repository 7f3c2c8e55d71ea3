"""Signs of collapsed representations: their effective rank and their normalized deviation."""

import torch
import torch.nn.functional as F
from torch import Tensor

from datastill.core.errors import DataError


@torch.no_grad()
def effective_rank(z: Tensor) -> float:  # (N, D)
    """Compute exp(-Σ p log p) of the normalized singular values p of the centred rows, in float64.

    Source: Roy and Vetterli, EUSIPCO 2007.

    Args:
        z: (N, D) representations, N at least 2.

    Returns:
        Between 1 (all rows on a line) and D; 0 if all rows are equal.

    Raises:
        DataError: `z` is not a matrix of two rows or more.

    Example:
        >>> round(effective_rank(torch.cat([torch.eye(3), -torch.eye(3)])), 4)
        3.0
    """
    _check(z)
    centred = z.double() - z.double().mean(0)
    singular: Tensor = torch.linalg.svdvals(centred)
    if singular[0] <= torch.finfo(z.dtype).eps * z.double().norm():  # equal rows, but for rounding
        return 0.0
    p = singular / singular.sum()
    return float(torch.special.entr(p).sum().exp())


@torch.no_grad()
def normalized_std(z: Tensor) -> float:  # (N, D)
    """Compute √D times the mean deviation of the columns of ℓ2-normalized rows, in float64.

    Source: Chen and He, CVPR 2021, section 4.1, who use it without √D.

    Args:
        z: (N, D) representations, N at least 2.

    Returns:
        1 if the directions of the rows are uniform, 0 if all are equal.

    Raises:
        DataError: `z` is not a matrix of two rows or more.

    Example:
        >>> normalized_std(torch.tensor([[1.0, 2.0], [2.0, 4.0]]))  # one direction
        0.0
    """
    _check(z)
    return float(F.normalize(z.double()).std(0).mean() * z.shape[1] ** 0.5)


def _check(z: Tensor) -> None:
    if z.dim() != 2 or len(z) < 2:
        raise DataError(f"a rank needs representations (N, D), N > 1; got {tuple(z.shape)}")
