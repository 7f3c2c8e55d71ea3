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

from datastill.artefact import DistilledSet
from datastill.augment.dsa import Dsa
from datastill.ground.options import option
from datastill.ground.rng import fork
from datastill.maths.optimizers import Sgd
from datastill.methods._base import AbstractMethod, Problem
from datastill.methods._class_matching import (
    InitialImages,
    MatchingState,
    batch_norm_layers,
    class_pair,
    initial_images,
    normalized_real,
    random_network,
)
from datastill.methods._classes import balanced_labels, draw_of_each_class, images_per_class
from datastill.methods._update import update
from datastill.networks._base import AbstractArchitecture, Network
from datastill.networks.convnet import ConvNet
from datastill.networks.train_step import train_step

# images per class: (outer loops, inner epochs), as released
PUBLISHED_LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
SMALLEST_PRODUCT = 1e-6  # of two lengths; keeps the cosine finite where a gradient is zero


@dataclass(kw_only=True)
class GradientMatchingState(MatchingState):
    """The distilled images and the network on which gradients are matched now."""

    network: Network
    order: Generator  # shuffles distilled images while they train the network


@dataclass(frozen=True)
class AbstractGradientMatching(AbstractMethod[GradientMatchingState]):
    """Algorithm 1; a method says how the batches of a class are augmented.

    One step is one outer loop: all classes are matched once, then the network is trained. It lives
    `outer_loops` steps, after the last of which the next one takes its place.
    """

    variant_options: ClassVar[tuple[str, ...]] = ("initial_images",)
    by_class: ClassVar[bool] = True
    default_network: ClassVar[AbstractArchitecture] = ConvNet(widths=(128,), norm="instance")

    networks: int = option(1000, "random networks, one after another", at_least=1, smoke=2)
    outer_loops: int | None = option(
        None,
        "steps that each network lives; default: as published for the images per class, 10 for 10",
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

    @property
    @abstractmethod
    def dsa(self) -> Dsa:
        """The augmentation of all images, real and distilled."""

    @property
    def needs_target(self) -> bool:
        return False

    @property
    def needs_labels(self) -> bool:
        return True

    def settled(self, problem: Problem) -> Self:
        outer_loops, inner_epochs = self._loops(problem)
        return replace(self, outer_loops=outer_loops, inner_epochs=inner_epochs)

    def length(self, problem: Problem) -> int:
        return self.networks * self._loops(problem)[0]

    def init(self, problem: Problem) -> GradientMatchingState:
        x_syn, seed = initial_images(problem, self.initial_images), problem.seed
        return GradientMatchingState(
            x_syn=x_syn,
            optimizer=torch.optim.SGD([x_syn], lr=self.outer_lr, momentum=self.outer_momentum),
            real=fork(seed, "real-images"),
            views=fork(seed, "views"),
            network=random_network(problem, 0),
            order=fork(seed, "inner-order"),
        )

    def step(
        self, problem: Problem, state: GradientMatchingState
    ) -> dict[str, Tensor | float | int]:
        outer_loops, inner_epochs = self._loops(problem)
        outer_loop = state.step % outer_loops
        self._freeze_batch_norm(problem, state)
        loss = self._match_classes(problem, state)
        state.step += 1
        if state.step % outer_loops:
            self._train_network(problem, state, inner_epochs)
        else:
            state.network = random_network(problem, state.step // outer_loops)
        return {"outer_loss": loss, "outer_loop": outer_loop}

    def result(self, problem: Problem, state: GradientMatchingState) -> DistilledSet:
        return self.pack(
            problem,
            state.x_syn,
            balanced_labels(problem),
            target_kind="hard-label",
            pixel_space="normalized",
        )

    def _loops(self, problem: Problem) -> tuple[int, int]:
        """(outer loops, inner epochs): what the options say, else what was published."""
        outer_loops, inner_epochs = published_loops(images_per_class(problem))
        return (
            outer_loops if self.outer_loops is None else self.outer_loops,
            inner_epochs if self.inner_epochs is None else self.inner_epochs,
        )

    def _match_classes(self, problem: Problem, state: GradientMatchingState) -> Tensor:
        """One update of the distilled images; return the mean distance of the classes."""
        losses = []
        state.optimizer.zero_grad()
        for label in range(len(problem.by_class)):
            loss = self._matching_loss(problem, state, label)
            loss.backward(inputs=[state.x_syn])  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        mean = torch.stack(losses).mean()
        update(state.optimizer, mean, {"x_syn": state.x_syn})
        return mean

    def _matching_loss(self, problem: Problem, state: GradientMatchingState, label: int) -> Tensor:
        """D(∇_θ L(real images of a class), ∇_θ L(its distilled images))."""
        x_real, x_syn = class_pair(
            problem, state, label, class_batch=self.class_batch, dsa=self.dsa
        )
        weights = [p for p in state.network.parameters() if p.dim() > 1]  # vectors do not count
        loss_real = _class_loss(problem, state.network, x_real, label)
        loss_syn = _class_loss(problem, state.network, x_syn, label)
        g_real = torch.autograd.grad(loss_real, weights)
        g_syn = torch.autograd.grad(loss_syn, weights, create_graph=True)
        return gradient_distance(g_real, g_syn)

    def _train_network(
        self, problem: Problem, state: GradientMatchingState, inner_epochs: int
    ) -> None:
        """Epochs of SGD on the distilled images, each batch augmented, each image for itself."""
        network, x_syn, y_syn = state.network, state.x_syn.detach(), balanced_labels(problem)
        optimizer = Sgd(self.inner_lr, momentum=0).make(network.parameters())  # it keeps no state
        for _ in range(inner_epochs):
            order = problem.machine.here(torch.randperm(len(x_syn), generator=state.order))
            for index in torch.split(order, self.inner_batch):
                x = self.dsa(x_syn[index], state.views)
                train_step(network, optimizer, F.cross_entropy, x, y_syn[index], problem.machine)

    def _freeze_batch_norm(self, problem: Problem, state: GradientMatchingState) -> None:
        """Let batch norm see real images of all classes, then use its running statistics.

        A few distilled images of one class would make poor statistics.
        """
        if layers := batch_norm_layers(state.network.train()):
            index = draw_of_each_class(problem, self.statistics_batch, state.real)
            with torch.no_grad():
                problem.machine.run(state.network, normalized_real(problem, index))
            for layer in layers:
                layer.eval()


def published_loops(per_class: int) -> tuple[int, int]:
    """(outer loops, inner epochs) of the next larger published count; above 50, those of 50."""
    larger = [count for count in PUBLISHED_LOOPS if count >= per_class]
    return PUBLISHED_LOOPS[min(larger, default=max(PUBLISHED_LOOPS))]


def gradient_distance(g_real: Sequence[Tensor], g_syn: Sequence[Tensor]) -> Tensor:
    """Σ over layers and their output channels of 1 - cos; each gradient (channels, ...)."""
    layers = zip(g_real, g_syn, strict=True)
    return torch.stack([_layer_distance(a.flatten(1), b.flatten(1)) for a, b in layers]).sum()


def _layer_distance(a: Tensor, b: Tensor) -> Tensor:  # (channels, n), (channels, n) -> ()
    lengths: Tensor = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
    return (1 - (a * b).sum(1) / (lengths + SMALLEST_PRODUCT)).sum()


def _class_loss(problem: Problem, network: Network, x: Tensor, label: int) -> Tensor:
    outputs = problem.machine.run(network, x)
    return F.cross_entropy(outputs, torch.full((len(x),), label, device=x.device))
