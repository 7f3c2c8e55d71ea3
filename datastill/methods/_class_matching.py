"""Matching real and distilled images class by class: what DC, DSA and DM share."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from datastill.augment.dsa import Dsa
from datastill.ground.rng import fork, seeded
from datastill.methods._base import Problem
from datastill.methods._classes import draw_of_class, draw_of_each_class, images_per_class
from datastill.networks._base import Network

InitialImages = Literal["real", "noise"]


@dataclass(kw_only=True)
class MatchingState:
    """What changes during a distillation; whole in every checkpoint."""

    x_syn: Tensor  # (M, C, H, W), normalized pixels, in label order
    optimizer: torch.optim.Optimizer  # of x_syn
    real: Generator  # draws real images
    views: Generator  # draws augmentations
    step: int = 0


def initial_images(problem: Problem, kind: InitialImages) -> Tensor:  # (M, C, H, W)
    """Random source images of each class, or normal noise: normalized pixels to be learned."""
    generator = fork(problem.seed, "initial-images")
    if kind == "real":
        chosen = draw_of_each_class(problem, images_per_class(problem), generator)
        return normalized_real(problem, chosen).requires_grad_()
    shape = (problem.count, *problem.images.images.shape[1:])
    noise = torch.randn(shape, generator=generator)
    return noise.to(problem.machine.device).requires_grad_()


def normalized_real(problem: Problem, index: Tensor) -> Tensor:  # (B,) int64 -> (B, C, H, W)
    """Normalized pixels of some source images, on the device."""
    return problem.images.normalizer(problem.real(index).float() / 255)


def class_pair(
    problem: Problem, state: MatchingState, label: int, *, class_batch: int, dsa: Dsa
) -> tuple[Tensor, Tensor]:  # (B, C, H, W), (M / K, C, H, W)
    """A batch of real images of a class and its distilled ones, augmented alike."""
    index = draw_of_class(problem, label, class_batch, state.real)
    x_syn = state.x_syn.chunk(len(problem.by_class))[label]
    twin = state.views.clone_state()  # the same state for both, hence the same amounts
    x_real = dsa(normalized_real(problem, index), state.views, siamese=True)
    return x_real, dsa(x_syn, twin, siamese=True)


def random_network(problem: Problem, number: int) -> Network:
    """The `number`-th untrained classifier: the same on every machine and after any resume."""
    with seeded(problem.seed, "random-network", number):
        network = problem.network(
            image_size=problem.images.image_size,
            channels=problem.images.channels,
            outputs=len(problem.by_class),
        )
    return problem.machine.place(network).train()


def batch_norm_layers(network: Network) -> list[nn.Module]:
    """The layers whose outputs depend on the other images of a batch."""
    return [m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
