"""What a distilled set starts from: source images or another set, as they will be stored."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from datastill.core.rng import fork
from datastill.methods.high_loss import HighLoss
from datastill.methods.k_means import KMeans
from datastill.methods.method import Method
from datastill.problem import Problem

StartImages = Literal["random", "high-loss", "k-means"]
START_HELP = "images to start from: random, or those of the method high-loss or k-means"


def choose_start(problem: Problem, start: StartImages, stream: str) -> Tensor:  # (M,) int64
    """Return the indices of the first images; `stream` names the random numbers of a random start.

    Raises:
        ConfigError: Ranks have chosen other images than each other.
    """
    if start == "random":
        order = torch.randperm(len(problem.images), generator=fork(problem.seed, stream))
        return order[: problem.count]
    chosen = (HighLoss() if start == "high-loss" else KMeans()).choose(problem)
    # Each rank has chosen by itself, and floats may differ between machines.
    problem.ranks.check_equal(int(chosen @ torch.arange(1, len(chosen) + 1)), "their first images")
    return chosen


@dataclass(frozen=True)
class StartPairs:
    """M images with their first targets."""

    original: Tensor  # (M, C, H, W) unit pixels, not encoded: to encode decoded ones changes them
    images: Tensor  # (M, C, H, W) unit pixels: as the set's file will have them where it is coded
    y: Tensor  # (M, D), on the device


def start_pairs(
    method: Method[Any], problem: Problem, start: StartImages, *, stream: str
) -> StartPairs:
    """Return the pairs of the problem's `start_set`, or else of source images (`choose_start`)."""
    if (given := problem.start_set) is None:
        index = choose_start(problem, start, stream)
        original, g = problem.images.unit_pixels(index), problem.represent(index)
    else:
        normalized = given.pixel_space == "normalized"
        original = given.normalizer.inverse(given.images) if normalized else given.images.clone()
        g = problem.machine.to_device(given.target_outputs.clone())
    y = problem.coordinates(g)
    if problem.compression is None:
        return StartPairs(original, original, y)
    pairs = method.pack(problem, original, y, target_kind="representation", pixel_space="unit")
    return StartPairs(original, problem.stored(pairs).images, y)
