"""Labels, samples and networks of methods that learn images class by class.

Distilled images are in label order: the first M / K are of class 0, and so on.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from datastill.augment.dsa import Dsa
from datastill.core.rng import fork, seeded
from datastill.networks.architecture import Network
from datastill.problem import Problem

InitialImages = Literal["real", "noise"]


def images_per_class(problem: Problem) -> int:
    """Return M / K."""
    return problem.count // len(problem.by_class)


def balanced_labels(problem: Problem) -> Tensor:  # (M,) int64
    """Return 0, 0, ..., 1, 1, ...: the labels of the distilled images, on the device."""
    labels = torch.arange(len(problem.by_class)).repeat_interleave(images_per_class(problem))
    return problem.machine.to_device(labels)


def sample_class(problem: Problem, label: int, size: int, generator: Generator) -> Tensor:
    """Return indices (at most size,) of different source images of a class, drawn uniformly."""
    indices = problem.by_class[label]
    return indices[torch.randperm(len(indices), generator=generator)[:size]]


def sample_each_class(problem: Problem, size: int, generator: Generator) -> Tensor:
    """Return indices (at most K · size,) of `size` images of each class, in label order."""
    classes = range(len(problem.by_class))
    return torch.cat([sample_class(problem, label, size, generator) for label in classes])


def centred_one_hot(labels: Tensor, num_classes: int) -> Tensor:  # (B,) int64 -> (B, K) float64
    """Return one-hot vectors less 1 / K, so that each sums to zero: what KRR methods regress."""
    return F.one_hot(labels, num_classes).double() - 1 / num_classes


def source_label_vectors(problem: Problem, index: Tensor) -> Tensor:  # (B,) int64 -> (B, K) float64
    """Return the centred one-hot labels of source images, on the device."""
    return centred_one_hot(
        problem.machine.to_device(problem.labels[index]), problem.images.num_classes
    )


@dataclass(kw_only=True)
class MatchingState:
    """What changes while DC, DSA or DM distil."""

    x_syn: Tensor  # (M, C, H, W), normalized pixels, in label order
    optimizer: torch.optim.Optimizer  # of x_syn
    real_generator: Generator  # samples real images
    augmentation_generator: Generator
    step: int = 0


def initial_images(problem: Problem, start: InitialImages) -> Tensor:  # (M, C, H, W)
    """Return random source images of each class, or normal noise, as normalized pixels to learn."""
    generator = fork(problem.seed, "initial-images")
    if start == "real":
        chosen = sample_each_class(problem, images_per_class(problem), generator)
        return problem.network_input(chosen).requires_grad_()
    noise = torch.randn(problem.count, *problem.images.images.shape[1:], generator=generator)
    return noise.to(problem.machine.device).requires_grad_()


def class_batches(
    problem: Problem, state: MatchingState, label: int, *, class_batch: int, augmentation: Dsa
) -> tuple[Tensor, Tensor]:  # (B, C, H, W), (M / K, C, H, W)
    """Return real images of a class and its distilled ones, augmented by the same amounts."""
    index = sample_class(problem, label, class_batch, state.real_generator)
    x_syn = state.x_syn.chunk(len(problem.by_class))[label]
    same_generator = state.augmentation_generator.clone_state()
    x_real = augmentation(problem.network_input(index), state.augmentation_generator, siamese=True)
    return x_real, augmentation(x_syn, same_generator, siamese=True)


def random_network(problem: Problem, number: int) -> Network:
    """Return untrained classifier `number`: the same on every machine and after any resume."""
    with seeded(problem.seed, "random-network", number):
        return problem.new_network()


def batch_norm_layers(network: Network) -> list[nn.Module]:
    """Return the layers whose outputs depend on the other images of a batch."""
    return [m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
