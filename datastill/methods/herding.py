"""Herding: greedily match the mean of the source's features (Welling, ICML 2009).

With class labels the mean of each class, as iCaRL chooses exemplars (Rebuffi et al., CVPR 2017).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from datastill.artefact import DistilledSet
from datastill.ground.options import check_bounds, option
from datastill.methods._base import AbstractMethod, Problem
from datastill.methods._real_pairs import RealTargets, real_pairs
from datastill.methods._selection import WITHOUT_TARGET, Space, features, groups


@dataclass
class HerdingState:
    """Indices of the chosen source images."""

    chosen: Tensor  # (M,) int64, in the order in which they were picked, class after class


@dataclass(frozen=True)
class Herding(AbstractMethod[HerdingState]):
    """M different source images whose features have almost the mean of all; nothing is drawn."""

    variant_options: ClassVar[tuple[str, ...]] = ("targets", "space")
    without_target: ClassVar[str] = WITHOUT_TARGET
    draws: ClassVar[bool] = False

    targets: RealTargets = option("representation", "what the images are paired with")
    space: Space = option("representation", "features whose mean is matched")

    def __post_init__(self) -> None:
        check_bounds(self)

    @property
    def needs_target(self) -> bool:
        return "representation" in (self.targets, self.space)

    @property
    def needs_labels(self) -> bool:
        return self.targets == "class-label"

    def length(self, problem: Problem) -> int:
        return 0

    def init(self, problem: Problem) -> HerdingState:
        chosen = [
            index[herd(features(problem, index, self.space), count)]
            for index, count in groups(problem, self.targets)
        ]
        return HerdingState(torch.cat(chosen))

    def step(self, problem: Problem, state: HerdingState) -> dict[str, Tensor | float | int]:
        return {}

    def result(self, problem: Problem, state: HerdingState) -> DistilledSet:
        return real_pairs(self, problem, state.chosen, self.targets)


def herd(x: Tensor, count: int) -> Tensor:  # (n, F) -> (count,) int64, distinct
    """Rows picked one by one, each so that the mean of the picked comes closest to the mean."""
    x = x.double()
    mean, picked_sum = x.mean(0), torch.zeros_like(x[0])
    squares, free = x.square().sum(1), torch.ones(len(x), dtype=torch.bool)
    picked = torch.empty(count, dtype=torch.int64)
    for t in range(count):
        wanted = (t + 1) * mean - picked_sum  # (F,)
        distance = squares - 2 * (x @ wanted)  # to `wanted`, but for a constant
        picked[t] = distance.masked_fill(~free, torch.inf).argmin()
        picked_sum, free[picked[t]] = picked_sum + x[picked[t]], False
    return picked
