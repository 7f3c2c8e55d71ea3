"""Class labels as targets of kernel ridge regression: one-hot less 1 / K, so that rows sum to 0."""

import torch.nn.functional as F
from torch import Tensor

from datastill.methods._base import Problem


def centred(labels: Tensor, classes: int) -> Tensor:  # (B,) int64 -> (B, K) float64
    """1 - 1 / K for the class of an image, -1 / K for all others."""
    return F.one_hot(labels, classes).double() - 1 / classes


def centred_labels(problem: Problem, index: Tensor) -> Tensor:  # (B,) int64 -> (B, K) float64
    """The labels of some source images, centred, on the device."""
    labels = problem.images.labels
    assert labels is not None, "AbstractMethod.check refuses this before any work"
    return centred(labels[index].to(problem.machine.device), problem.images.num_classes)
