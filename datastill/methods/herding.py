"""Herding: greedily match the mean of the source's features (Welling, ICML 2009).

With class labels the mean of each class, as iCaRL chooses exemplars (Rebuffi et al., CVPR 2017).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from datastill.methods._real_images import SelectionMethod


@dataclass(frozen=True)
class Herding(SelectionMethod):
    """Pick M source images, one by one, so that the mean of their features is close to that of all.

    Every seed gives the same images.

    Args:
        targets: Pair the images with their target `representation` or `class-label`.
        space: Select by target `representation`, or by normalized `pixels`.

    Raises:
        ConfigError: The problem lacks the target model or the labels that are needed.

    Example:
        >>> import datastill as ds
        >>> problem = ds.Problem(ds.source("digits").load("train"), None, count=20)
        >>> len(ds.distill(ds.Herding(targets="class-label", space="pixels"), problem))
        20
    """

    is_stochastic: ClassVar[bool] = False

    def select(self, x: Tensor, count: int, *, seed: int) -> Tensor:
        return herding_indices(x, count)


def herding_indices(x: Tensor, count: int) -> Tensor:  # (n, F) -> (count,) int64, distinct
    """Pick rows one by one, each so that the mean of the picked comes closest to the mean."""
    x = x.double()
    mean, picked_sum = x.mean(0), torch.zeros_like(x[0])
    squares, free = x.square().sum(1), torch.ones(len(x), dtype=torch.bool)
    picked = torch.empty(count, dtype=torch.int64)
    for t in range(count):
        wanted = (t + 1) * mean - picked_sum  # (F,)
        distance = squares - 2 * (x @ wanted)  # squared, to `wanted`, up to a constant
        picked[t] = distance.masked_fill(~free, torch.inf).argmin()
        picked_sum, free[picked[t]] = picked_sum + x[picked[t]], False
    return picked
