"""Methods that choose source images and leave them as they are: no step is taken."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from datastill.core.errors import ConfigError, NotFiniteError
from datastill.core.lookup import public_name
from datastill.core.options import check_bounds, option
from datastill.core.rng import derive
from datastill.distilled_set import DistilledSet
from datastill.methods.method import Method
from datastill.problem import Problem

RealTargets = Literal["representation", "class-label"]
Space = Literal["representation", "pixels"]
BLOCK = 1024  # images whose features are computed at a time


@dataclass
class RealImagesState:
    """Indices of the chosen source images."""

    chosen: Tensor  # (M,) int64


@dataclass(frozen=True)
class RealImagesMethod(Method[RealImagesState]):
    """Source images with their target representations or class labels."""

    targets: RealTargets = option("representation", "what the images are paired with")

    @abstractmethod
    def choose(self, problem: Problem) -> Tensor:  # (M,) int64
        """Return the indices of the source images."""

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
    method: Method[Any],
    problem: Problem,
    chosen: Tensor,  # (M,) int64
    targets: RealTargets,
) -> DistilledSet:
    """Return the source images at `chosen` in unit pixels, with representations or labels."""
    unit = problem.images.unit_pixels(chosen)
    if targets == "representation":
        g = problem.coordinates(problem.represent(chosen))
        return method.pack(problem, unit, g, target_kind="representation", pixel_space="unit")
    labels = problem.labels[chosen]
    return method.pack(problem, unit, labels, target_kind="hard-label", pixel_space="unit")


@dataclass(frozen=True)
class SelectionMethod(RealImagesMethod):
    """M different source images, selected by their features: of all, or so many of each class."""

    variant_options: ClassVar[tuple[str, ...]] = ("targets", "space")
    no_target_hint: ClassVar[str] = "--method.targets class-label --method.space pixels"

    space: Space = option("representation", "features by which images are selected")

    @abstractmethod
    def select(self, x: Tensor, count: int, *, seed: int) -> Tensor:  # (n, F) -> (count,) int64
        """Return the positions of `count` different rows, one or more."""

    @property
    def needs_target(self) -> bool:
        return "representation" in (self.targets, self.space)

    def choose(self, problem: Problem) -> Tensor:
        chosen, name = [], public_name(self)
        for number, (index, count) in enumerate(groups(problem, self.targets)):
            x, seed = features(problem, index, self.space), derive(problem.seed, name, number)
            chosen.append(index[self.select(x, count, seed=seed)])
        return torch.cat(chosen)


def groups(problem: Problem, targets: RealTargets) -> list[tuple[Tensor, int]]:
    """Return (source indices (n,), images to select of them): per class for labels, else of all.

    Where K does not divide M, the first classes get one more; classes without any are left out.

    Raises:
        ConfigError: A class has fewer images than are asked of it.
    """
    if targets == "representation":
        return [(torch.arange(len(problem.images)), problem.count)]
    share, rest = divmod(problem.count, len(problem.by_class))
    shares = [(index, share + (k < rest)) for k, index in enumerate(problem.by_class)]
    for k, (index, count) in enumerate(shares):
        if len(index) < count:
            raise ConfigError(
                f"{count} images of each class were asked for, and class"
                f" {problem.images.classes[k]} of {problem.images.name} has {len(index)};"
                " lower --count"
            )
    return [(index, count) for index, count in shares if count]


def features(problem: Problem, index: Tensor, space: Space) -> Tensor:  # (n,) -> (n, F) float32
    """Return the representations of source images, or their normalized pixels; on the CPU.

    Raises:
        NotFiniteError: A representation has a NaN or an infinity.
    """
    if space == "pixels":
        return problem.images.normalized(index).flatten(1)
    g = torch.cat([problem.represent(block).cpu() for block in torch.split(index, BLOCK)])
    if not g.isfinite().all():
        raise NotFiniteError(
            f"the target model gives some images of {problem.images.name} representations that are"
            " not finite; train another target model, or select by --method.space pixels"
        )
    return g
