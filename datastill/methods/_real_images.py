"""Methods that choose source images and leave them as they are: no step is taken."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from datastill.artefact import DistilledSet
from datastill.ground.options import check_bounds, option
from datastill.methods._base import AbstractMethod, Problem

RealTargets = Literal["representation", "class-label"]


@dataclass
class RealImagesState:
    """Indices of the chosen source images."""

    chosen: Tensor  # (M,) int64


@dataclass(frozen=True)
class AbstractRealImages(AbstractMethod[RealImagesState]):
    """Source images with their target representations or class labels."""

    targets: RealTargets = option("representation", "what the images are paired with")

    @abstractmethod
    def choose(self, problem: Problem) -> Tensor:  # (M,) int64
        """Indices of the source images."""

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

    def init(self, problem: Problem) -> RealImagesState:
        return RealImagesState(self.choose(problem))

    def step(self, problem: Problem, state: RealImagesState) -> dict[str, Tensor | float | int]:
        return {}

    def result(self, problem: Problem, state: RealImagesState) -> DistilledSet:
        return real_pairs(self, problem, state.chosen, self.targets)


def real_pairs(
    method: AbstractMethod[Any],
    problem: Problem,
    chosen: Tensor,  # (M,) int64
    targets: RealTargets,
) -> DistilledSet:
    """The source images at `chosen` in unit pixels, paired with what `targets` names."""
    unit = problem.images.unit_pixels(chosen)
    if targets == "representation":
        g = problem.represent(chosen)
        return method.pack(problem, unit, g, target_kind="representation", pixel_space="unit")
    labels = problem.images.labels
    assert labels is not None, "AbstractMethod.check refuses this before any work"
    return method.pack(problem, unit, labels[chosen], target_kind="hard-label", pixel_space="unit")
