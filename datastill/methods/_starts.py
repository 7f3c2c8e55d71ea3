"""Which source images a distilled set starts from."""

from typing import Literal

import torch
from torch import Tensor

from datastill.core.rng import fork
from datastill.methods.high_loss import HighLoss
from datastill.methods.k_means import KMeans
from datastill.methods.method import Problem

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
