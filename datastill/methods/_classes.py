"""Class by class: what every method that learns images for given labels shares.

Distilled images are in label order: the first M / K are of class 0, and so on.
"""

import torch
from torch import Generator, Tensor

from datastill.methods._base import Problem


def images_per_class(problem: Problem) -> int:
    """M / K."""
    return problem.count // len(problem.by_class)


def balanced_labels(problem: Problem) -> Tensor:  # (M,) int64
    """0, 0, ..., 1, 1, ...: the labels of the distilled images, on the device."""
    labels = torch.arange(len(problem.by_class)).repeat_interleave(images_per_class(problem))
    return problem.machine.here(labels)


def draw_of_class(problem: Problem, label: int, size: int, generator: Generator) -> Tensor:
    """Indices (at most size,) of different source images of a class, drawn uniformly."""
    members = problem.by_class[label]
    return members[torch.randperm(len(members), generator=generator)[:size]]


def draw_of_each_class(problem: Problem, size: int, generator: Generator) -> Tensor:
    """Indices (at most K · size,) of `size` images of each class, in label order."""
    classes = range(len(problem.by_class))
    return torch.cat([draw_of_class(problem, k, size, generator) for k in classes])
