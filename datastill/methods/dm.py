"""DM: dataset condensation with distribution matching (Zhao & Bilen, WACV 2023).

    x_syn ← x_syn - η ∇ Σ_k ‖mean ψ(A_ω(real images of class k)) - mean ψ(A_ω(distilled images))‖²

ψ is the body of a network with random weights, another one in each step, which is never trained;
A is differentiable Siamese augmentation, with the same amounts ω for both batches of a class.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from datastill.artefact import DistilledSet
from datastill.augment.dsa import Dsa
from datastill.ground.options import check_bounds, option
from datastill.ground.rng import fork
from datastill.methods._base import AbstractMethod, Problem
from datastill.methods._class_matching import (
    InitialImages,
    MatchingState,
    batch_norm_layers,
    class_pair,
    initial_images,
    random_network,
)
from datastill.methods._classes import balanced_labels
from datastill.methods._update import update
from datastill.networks._base import AbstractArchitecture, Network
from datastill.networks.convnet import ConvNet


@dataclass(frozen=True)
class DM(AbstractMethod[MatchingState]):
    """Distribution matching; the defaults are the paper's for up to 50 images per class."""

    variant_options: ClassVar[tuple[str, ...]] = ("initial_images",)
    by_class: ClassVar[bool] = True
    default_network: ClassVar[AbstractArchitecture] = ConvNet(widths=(128,), norm="instance")

    outer_steps: int = option(20_000, "updates of the distilled images", at_least=1, smoke=3)
    class_batch: int = option(256, "real images per class and step", at_least=1, smoke=4)
    outer_lr: float = option(
        1.0,
        "SGD learning rate of distilled images; published for CIFAR-10: 10 from 100 per class on",
        above=0,
    )
    outer_momentum: float = option(0.5, "SGD momentum of distilled images", at_least=0, below=1)
    initial_images: InitialImages = option("real", "what distilled images start from")
    strategies: tuple[str, ...] = option(
        Dsa().strategies, "one of these per batch; leave flip out for digits; none: no augmentation"
    )

    def __post_init__(self) -> None:
        check_bounds(self)
        Dsa(self.strategies)  # refuses unknown ones

    @property
    def needs_target(self) -> bool:
        return False

    @property
    def needs_labels(self) -> bool:
        return True

    def length(self, problem: Problem) -> int:
        return self.outer_steps

    def init(self, problem: Problem) -> MatchingState:
        x_syn, seed = initial_images(problem, self.initial_images), problem.seed
        return MatchingState(
            x_syn=x_syn,
            optimizer=torch.optim.SGD([x_syn], lr=self.outer_lr, momentum=self.outer_momentum),
            real=fork(seed, "real-images"),
            views=fork(seed, "views"),
        )

    def step(self, problem: Problem, state: MatchingState) -> dict[str, Tensor | float | int]:
        network = random_network(problem, state.step).requires_grad_(False)
        losses = []
        state.optimizer.zero_grad()
        for labels in _embedded_together(network, len(problem.by_class)):
            loss = self._matching_loss(problem, state, network, labels)
            loss.backward(inputs=[state.x_syn])  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        total = torch.stack(losses).sum()
        update(state.optimizer, total, {"x_syn": state.x_syn})
        state.step += 1
        return {"outer_loss": total / len(problem.by_class)}

    def result(self, problem: Problem, state: MatchingState) -> DistilledSet:
        return self.pack(
            problem,
            state.x_syn,
            balanced_labels(problem),
            target_kind="hard-label",
            pixel_space="normalized",
        )

    def _matching_loss(
        self, problem: Problem, state: MatchingState, network: Network, labels: Sequence[int]
    ) -> Tensor:
        """Σ over `labels` of the squared distance between mean features."""
        embed = partial(problem.machine.run, network.embed)
        dsa, size = Dsa(self.strategies), self.class_batch
        pairs = [class_pair(problem, state, k, class_batch=size, dsa=dsa) for k in labels]
        with torch.no_grad():
            real = _class_means(embed, [x_real for x_real, _ in pairs])  # (k, F)
        syn = _class_means(embed, [x_syn for _, x_syn in pairs])  # (k, F)
        return (real - syn).square().sum()


def _embedded_together(network: Network, classes: int) -> list[range]:
    """Class by class, to save memory; with batch norm all at once, for statistics of them all."""
    if batch_norm_layers(network):
        return [range(classes)]
    return [range(label, label + 1) for label in range(classes)]


def _class_means(embed: Callable[[Tensor], Tensor], batches: Sequence[Tensor]) -> Tensor:  # (k, F)
    """Mean feature of each of k batches, embedded as one."""
    features = embed(torch.cat(list(batches)))
    return torch.stack([f.mean(0) for f in torch.split(features, [len(x) for x in batches])])
