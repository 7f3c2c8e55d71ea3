"""Gradient matching (Zhao, Mopuri & Bilen, ICLR 2021, Algorithm 1), with any augmentation.

On random networks, one after another, distilled images of a class are made to give the gradient
that real images of the class give: as the network starts, and on the way that it takes when it is
trained on the distilled images.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from datastill.augment.dsa import Dsa
from datastill.core.machine import Machine
from datastill.core.options import check_bounds, option
from datastill.core.rng import fork
from datastill.distilled_set import DistilledSet
from datastill.methods._checked_step import checked_optimizer_step
from datastill.methods._classes import (
    InitialImages,
    MatchingState,
    balanced_labels,
    batch_norm_layers,
    class_batches,
    images_per_class,
    initial_images,
    random_network,
    sample_each_class,
)
from datastill.methods.method import Method
from datastill.networks.architecture import Architecture, Network
from datastill.networks.convnet import ConvNet
from datastill.networks.train_step import train_step
from datastill.ops.optimizers import Sgd
from datastill.problem import Problem

# images per class: (outer loops, inner epochs), as released
PUBLISHED_LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
SMALLEST_PRODUCT = 1e-6  # of two lengths; keeps the cosine finite where a gradient is zero


@dataclass(kw_only=True)
class GradientMatchingState(MatchingState):
    """The distilled images and the network on which gradients are matched now."""

    network: Network
    order_generator: Generator  # shuffles distilled images while they train the network


@dataclass(frozen=True)
class GradientMatching(Method[GradientMatchingState]):
    """Algorithm 1; a method says how images are augmented.

    One step is one outer loop: all classes are matched once, then the network is trained. After
    `outer_loops` steps a new network takes its place.
    """

    variant_options: ClassVar[tuple[str, ...]] = ("initial_images",)
    by_class: ClassVar[bool] = True
    default_network: ClassVar[Architecture] = ConvNet(widths=(128,), norm="instance")

    networks: int = option(1000, "random networks, one after another", at_least=1, smoke=2)
    outer_loops: int | None = option(
        None,
        "steps with each network; default: as published for the images per class, 10 for 10",
        at_least=1,
        smoke=2,
    )
    inner_epochs: int | None = option(
        None,
        "epochs that a network is trained on distilled images between two steps; default: as"
        " published for the images per class, 50 for 10",
        at_least=0,
        smoke=1,
    )
    class_batch: int = option(256, "real images per class and step", at_least=1, smoke=4)
    outer_lr: float = option(0.1, "SGD learning rate of distilled images", above=0)
    outer_momentum: float = option(0.5, "SGD momentum of distilled images", at_least=0, below=1)
    inner_batch: int = option(256, "distilled images per step of a network", at_least=1)
    inner_lr: float = option(0.01, "SGD learning rate of networks", above=0)
    statistics_batch: int = option(
        16, "real images per class for the statistics of batch norm, if there is any", at_least=1
    )
    initial_images: InitialImages = option("noise", "what distilled images start from")

    def __post_init__(self) -> None:
        check_bounds(self)

    @property
    @abstractmethod
    def augmentation(self) -> Dsa:
        """The augmentation of all images, real and distilled."""

    def _with_loops(self, problem: Problem) -> Self:
        """Fill in the published numbers of loops where none were passed."""
        outer_loops, inner_epochs = published_loops(images_per_class(problem))
        if self.outer_loops is not None:
            outer_loops = self.outer_loops
        if self.inner_epochs is not None:
            inner_epochs = self.inner_epochs
        return replace(self, outer_loops=outer_loops, inner_epochs=inner_epochs)

    def length(self, problem: Problem) -> int:
        return self.networks * (self._with_loops(problem).outer_loops or 0)

    def init(self, problem: Problem) -> GradientMatchingState:
        x_syn, seed = initial_images(problem, self.initial_images), problem.seed
        return GradientMatchingState(
            x_syn=x_syn,
            optimizer=torch.optim.SGD([x_syn], lr=self.outer_lr, momentum=self.outer_momentum),
            real_generator=fork(seed, "real-images"),
            augmentation_generator=fork(seed, "views"),
            network=random_network(problem, 0),
            order_generator=fork(seed, "inner-order"),
        )

    def step(
        self, problem: Problem, state: GradientMatchingState
    ) -> dict[str, Tensor | float | int]:
        method, network = self._with_loops(problem), state.network
        assert method.outer_loops is not None and method.inner_epochs is not None
        outer_loop = state.step % method.outer_loops

        self._set_batch_norm_statistics(problem, state)
        losses = []
        state.optimizer.zero_grad()
        for label in range(len(problem.by_class)):
            x_real, x_syn = class_batches(
                problem,
                state,
                label,
                class_batch=self.class_batch,
                augmentation=self.augmentation,
            )
            distance = matching_loss(network, x_real, x_syn, label, problem.machine)
            distance.backward(inputs=[state.x_syn])  # type: ignore[no-untyped-call]
            losses.append(distance.detach())
        loss = torch.stack(losses).mean()
        checked_optimizer_step(state.optimizer, loss, {"x_syn": state.x_syn})

        state.step += 1
        if state.step % method.outer_loops:
            self._train_network(problem, state, method.inner_epochs)
        else:
            state.network = random_network(problem, state.step // method.outer_loops)
        return {"outer_loss": loss, "outer_loop": outer_loop}

    def result(self, problem: Problem, state: GradientMatchingState) -> DistilledSet:
        return self.pack(
            problem,
            state.x_syn,
            balanced_labels(problem),
            target_kind="hard-label",
            pixel_space="normalized",
        )

    def _set_batch_norm_statistics(self, problem: Problem, state: GradientMatchingState) -> None:
        """Let batch norm see real images of all classes, then use its running statistics.

        A few distilled images of one class would make poor statistics.
        """
        if layers := batch_norm_layers(state.network.train()):
            index = sample_each_class(problem, self.statistics_batch, state.real_generator)
            with torch.no_grad():
                problem.machine.forward(state.network, problem.network_input(index))
            for layer in layers:
                layer.eval()

    def _train_network(self, problem: Problem, state: GradientMatchingState, epochs: int) -> None:
        """Train the network by SGD on the distilled images, each image augmented by itself."""
        x_syn, y_syn = state.x_syn.detach(), balanced_labels(problem)
        optimizer = Sgd(self.inner_lr, momentum=0).make(state.network.parameters())  # stateless
        for _ in range(epochs):
            order = torch.randperm(len(x_syn), generator=state.order_generator)
            for index in torch.split(problem.machine.to_device(order), self.inner_batch):
                x = self.augmentation(x_syn[index], state.augmentation_generator)
                train_step(
                    state.network, optimizer, F.cross_entropy, x, y_syn[index], problem.machine
                )


def matching_loss(
    network: Network, x_real: Tensor, x_syn: Tensor, label: int, machine: Machine
) -> Tensor:
    """Return D(∇_θ L(x_real), ∇_θ L(x_syn)) of images of one class; differentiable in x_syn."""
    weights = [p for p in network.parameters() if p.dim() > 1]  # vectors do not count
    real_loss, syn_loss = (
        F.cross_entropy(machine.forward(network, x), torch.full((len(x),), label, device=x.device))
        for x in (x_real, x_syn)
    )
    real_gradients = torch.autograd.grad(real_loss, weights)
    syn_gradients = torch.autograd.grad(syn_loss, weights, create_graph=True)
    return gradient_distance(real_gradients, syn_gradients)


def published_loops(per_class: int) -> tuple[int, int]:
    """Return (outer loops, inner epochs) of the next larger published count; above 50, of 50."""
    larger = [count for count in PUBLISHED_LOOPS if count >= per_class]
    return PUBLISHED_LOOPS[min(larger, default=max(PUBLISHED_LOOPS))]


def gradient_distance(g_real: Sequence[Tensor], g_syn: Sequence[Tensor]) -> Tensor:
    """Return Σ over layers and their output channels of 1 - cos; each gradient (channels, ...)."""
    layers = zip(g_real, g_syn, strict=True)
    return torch.stack([_layer_distance(a.flatten(1), b.flatten(1)) for a, b in layers]).sum()


def _layer_distance(a: Tensor, b: Tensor) -> Tensor:  # (channels, n), (channels, n) -> ()
    lengths: Tensor = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
    return (1 - (a * b).sum(1) / (lengths + SMALLEST_PRODUCT)).sum()
