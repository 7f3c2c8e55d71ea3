"""Random subset: source images as they are, a row of KRR-ST's tables (Lee et al., ICLR 2024).

With target representations (ours) or with class labels (theirs). The control that isolates what
distillation adds: the same number of images with the same kind of targets, but none learned.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from datastill.artefact import DistilledSet
from datastill.ground.options import check_bounds, option
from datastill.ground.rng import fork
from datastill.methods._base import AbstractMethod, Problem
from datastill.methods._real_pairs import RealTargets, real_pairs


@dataclass
class RandomSubsetState:
    """Indices of the chosen source images."""

    chosen: Tensor  # (M,) int64


@dataclass(frozen=True)
class RandomSubset(AbstractMethod[RandomSubsetState]):
    """M source images, drawn uniformly without replacement, from all or class by class."""

    variant_options: ClassVar[tuple[str, ...]] = ("targets", "balanced")
    without_target: ClassVar[str] = "--method.targets class-label"

    targets: RealTargets = option("representation", "what the images are paired with")
    balanced: bool = option(False, "as many images of each class, as the DC family's random row")

    def __post_init__(self) -> None:
        check_bounds(self)

    @property
    def needs_target(self) -> bool:
        return self.targets == "representation"

    @property
    def needs_labels(self) -> bool:
        return self.balanced or self.targets == "class-label"

    def length(self, problem: Problem) -> int:
        return 0

    def init(self, problem: Problem) -> RandomSubsetState:
        order = torch.randperm(len(problem.images), generator=fork(problem.seed, "random-subset"))
        if self.balanced:
            order = _class_by_class(problem, order)
        return RandomSubsetState(order[: problem.count])

    def step(self, problem: Problem, state: RandomSubsetState) -> dict[str, Tensor | float | int]:
        return {}

    def result(self, problem: Problem, state: RandomSubsetState) -> DistilledSet:
        return real_pairs(self, problem, state.chosen, self.targets)


def _class_by_class(problem: Problem, order: Tensor) -> Tensor:  # (N,) int64 -> (N,)
    """The same order within each class, but one image of every class in turn.

    The first M hold as many of each class as of any other, or one more where M / K leaves a rest.
    """
    labels = problem.images.labels
    assert labels is not None, "AbstractMethod.check refuses this before any work"
    turn = torch.empty_like(order)
    for k in range(problem.images.num_classes):
        members = torch.nonzero(labels[order] == k).flatten()
        turn[members] = torch.arange(len(members))
    return order[turn.argsort(stable=True)]
