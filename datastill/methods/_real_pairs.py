"""Real source images as a distilled set, with target representations or class labels."""

from typing import Any, Literal

from torch import Tensor

from datastill.artefact import DistilledSet
from datastill.methods._base import AbstractMethod, Problem

RealTargets = Literal["representation", "class-label"]


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
