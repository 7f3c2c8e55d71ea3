"""Full source: every source image with its target; an upper line of ours that is in no paper."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from datastill.artefact import DistilledSet
from datastill.ground.options import check_bounds, option
from datastill.methods._base import AbstractMethod, Problem
from datastill.methods._real_pairs import RealTargets, real_pairs


@dataclass
class FullSourceState:
    """Nothing is learned or drawn."""


@dataclass(frozen=True)
class FullSource(AbstractMethod[FullSourceState]):
    """All N source images; nothing is distilled."""

    variant_options: ClassVar[tuple[str, ...]] = ("targets",)
    without_target: ClassVar[str] = "--method.targets class-label"
    takes_all: ClassVar[bool] = True
    draws: ClassVar[bool] = False

    targets: RealTargets = option("representation", "what the images are paired with")

    def __post_init__(self) -> None:
        check_bounds(self)

    @property
    def needs_target(self) -> bool:
        return self.targets == "representation"

    @property
    def needs_labels(self) -> bool:
        return self.targets == "class-label"

    def length(self, problem: Problem) -> int:
        return 0

    def init(self, problem: Problem) -> FullSourceState:
        return FullSourceState()

    def step(self, problem: Problem, state: FullSourceState) -> dict[str, Tensor | float | int]:
        return {}

    def result(self, problem: Problem, state: FullSourceState) -> DistilledSet:
        return real_pairs(self, problem, torch.arange(len(problem.images)), self.targets)
