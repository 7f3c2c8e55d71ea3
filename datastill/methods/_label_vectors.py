"""Vectors of K numbers in place of class numbers: what KRR methods regress, and learn."""

import torch.nn.functional as F
from torch import Tensor

from datastill.images import ImageSet
from datastill.methods._base import Problem


def centred(labels: Tensor, num_classes: int) -> Tensor:  # (B,) int64 -> (B, K) float64
    """One-hot vectors less 1 / K, so that each sums to zero."""
    return F.one_hot(labels, num_classes).double() - 1 / num_classes


def centred_labels(problem: Problem, index: Tensor) -> Tensor:  # (B,) int64 -> (B, K) float64
    """The labels of some source images, centred, on the device."""
    labels = problem.images.labels
    assert labels is not None, "AbstractMethod.check refuses this before any work"
    return centred(problem.machine.here(labels[index]), problem.images.num_classes)


def labelled_batch(problem: Problem, source: ImageSet, index: Tensor) -> tuple[Tensor, Tensor]:
    """Normalized pixels (B, C, H, W) and centred labels (B, K) of source images, on the device.

    `source` is that of the problem, or whitened.
    """
    x = source.normalizer(problem.real(index).float() / 255)
    return x, centred_labels(problem, index).float()


def capped_margin(labels: Tensor) -> Tensor:  # (M, K) -> (M,)
    """By how much the largest of K numbers exceeds the second; at most 1 / K."""
    num_classes = labels.shape[1]
    top = labels.topk(min(2, num_classes), dim=1).values
    return (top[:, 0] - top[:, -1]).clamp_max(1 / num_classes)
