"""Random subset: source images as they are, a row of KRR-ST's tables (Lee et al., ICLR 2024).

With target representations (ours) or with class labels (the paper's). The control that isolates
the effect of distillation: the same number of images and kind of targets, but none learned.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from datastill.core.options import option
from datastill.core.rng import fork
from datastill.methods._real_images import RealImagesMethod
from datastill.problem import Problem


@dataclass(frozen=True)
class RandomSubset(RealImagesMethod):
    """Draw M source images uniformly without replacement, from all or class by class.

    Args:
        targets: Pair the images with their target `representation` or `class-label`.
        balanced: Draw as many images of each class, as the random row of the DC family.

    Raises:
        ConfigError: The problem lacks the target model or the labels that are needed.

    Example:
        >>> import datastill as ds
        >>> problem = ds.Problem(ds.source("digits").load("train"), None, count=10)
        >>> subset = ds.distill(ds.RandomSubset(targets="class-label", balanced=True), problem)
        >>> sorted(subset.targets.tolist())
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """

    variant_options: ClassVar[tuple[str, ...]] = ("targets", "balanced")
    no_target_hint: ClassVar[str] = "--method.targets class-label"

    balanced: bool = option(False, "as many images of each class, as the DC family's random row")

    @property
    def needs_labels(self) -> bool:
        return self.balanced or super().needs_labels

    def choose(self, problem: Problem) -> Tensor:
        order = torch.randperm(len(problem.images), generator=fork(problem.seed, "random-subset"))
        if self.balanced:
            order = _class_by_class(problem, order)
        return order[: problem.count]


def _class_by_class(problem: Problem, order: Tensor) -> Tensor:  # (N,) int64 -> (N,)
    """Return the same order within each class, but one image of every class in turn.

    The first M hold as many of each class as of any other, or one more where K does not divide M.
    """
    number_in_class = torch.empty_like(order)
    for k in range(problem.images.num_classes):
        members = torch.nonzero(problem.labels[order] == k).flatten()
        number_in_class[members] = torch.arange(len(members))
    return order[number_in_class.argsort(stable=True)]
