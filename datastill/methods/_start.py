"""The pairs that a method starts from: source images, or those of a set, as they will be stored."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from datastill.methods.method import Method, Problem


@dataclass(frozen=True)
class StartPairs:
    """M images with their first targets."""

    original: Tensor  # (M, C, H, W) unit pixels, not encoded: to encode decoded ones changes them
    images: Tensor  # (M, C, H, W) unit pixels: as the set's file will have them where it is coded
    y: Tensor  # (M, D), on the device


def start_pairs(
    method: Method[Any], problem: Problem, choose: Callable[[Problem], Tensor]
) -> StartPairs:
    """Return the pairs of the problem's `start`, or of the source images that `choose` returns."""
    if (start := problem.start) is None:
        index = choose(problem)
        original, g = problem.images.unit_pixels(index), problem.represent(index)
    else:
        normalized = start.pixel_space == "normalized"
        original = start.normalizer.inverse(start.images) if normalized else start.images.clone()
        g = problem.machine.to_device(start.target_outputs.clone())
    y = problem.coordinates(g)
    if problem.compression is None:
        return StartPairs(original, original, y)
    pairs = method.pack(problem, original, y, target_kind="representation", pixel_space="unit")
    return StartPairs(original, problem.stored(pairs).images, y)
