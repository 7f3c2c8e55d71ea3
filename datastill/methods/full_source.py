"""Full source: every source image with its target; an upper line of ours that is in no paper."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from datastill.methods._real_images import RealImagesMethod
from datastill.problem import Problem


@dataclass(frozen=True)
class FullSource(RealImagesMethod):
    """Take all N source images with their targets; nothing is distilled.

    Args:
        targets: Pair the images with their target `representation` or `class-label`.

    Raises:
        ConfigError: The problem lacks the target model or the labels that are needed.

    Example:
        >>> import datastill as ds
        >>> images = ds.source("digits").load("train")
        >>> problem = ds.Problem(images, None, count=len(images))
        >>> len(ds.distill(ds.FullSource(targets="class-label"), problem)) == len(images)
        True
    """

    variant_options: ClassVar[tuple[str, ...]] = ("targets",)
    no_target_hint: ClassVar[str] = "--method.targets class-label"
    uses_full_source: ClassVar[bool] = True
    is_stochastic: ClassVar[bool] = False

    def choose(self, problem: Problem) -> Tensor:
        return torch.arange(len(problem.images))
