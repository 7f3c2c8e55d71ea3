"""Selecting source images by their features: what k-means and herding share."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from datastill.ground.errors import ConfigError, NotFiniteError
from datastill.ground.lookup import public_name
from datastill.ground.options import option
from datastill.ground.rng import derive
from datastill.methods._base import Problem
from datastill.methods._real_images import AbstractRealImages, RealTargets

Space = Literal["representation", "pixels"]
BLOCK = 1024  # images whose features are computed at a time


@dataclass(frozen=True)
class AbstractSelection(AbstractRealImages):
    """M different source images: of all, or with class labels so many of each class."""

    variant_options: ClassVar[tuple[str, ...]] = ("targets", "space")
    without_target: ClassVar[str] = "--method.targets class-label --method.space pixels"

    space: Space = option("representation", "features by which images are selected")

    @abstractmethod
    def select(self, x: Tensor, count: int, *, seed: int) -> Tensor:  # (n, F) -> (count,) int64
        """Positions of `count` different rows, one or more."""

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
    """(source indices (n,), images to select of them): per class for labels, else all at once.

    Where M / K leaves a rest, the first classes get one more; classes that give none are left out.

    Raises:
        ConfigError: a class has fewer images than it has to give.
    """
    if targets == "representation":
        return [(torch.arange(len(problem.images)), problem.count)]
    members = problem.by_class
    share, rest = divmod(problem.count, len(members))
    found = [(index, share + (k < rest)) for k, index in enumerate(members)]
    for k, (index, wanted) in enumerate(found):
        if len(index) < wanted:
            raise ConfigError(
                f"{wanted} images of each class were asked for, and class"
                f" {problem.images.classes[k]} of {problem.images.name} has {len(index)};"
                " lower --count"
            )
    return [(index, wanted) for index, wanted in found if wanted]


def features(problem: Problem, index: Tensor, space: Space) -> Tensor:  # (n,) -> (n, F) float32
    """The representations of source images, or their normalized pixels; on the CPU.

    Raises:
        NotFiniteError: a representation has a NaN or an infinity.
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
