"""Full source: every source image with its target; an upper line of ours that is in no paper."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from datastill.methods._base import Problem
from datastill.methods._real_images import AbstractRealImages


@dataclass(frozen=True)
class FullSource(AbstractRealImages):
    """All N source images; nothing is distilled."""

    variant_options: ClassVar[tuple[str, ...]] = ("targets",)
    without_target: ClassVar[str] = "--method.targets class-label"
    takes_all: ClassVar[bool] = True
    draws: ClassVar[bool] = False

    def choose(self, problem: Problem) -> Tensor:
        return torch.arange(len(problem.images))
