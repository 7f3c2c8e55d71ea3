"""DM: dataset condensation with distribution matching (Zhao & Bilen, WACV 2023).

    x_syn ← x_syn - η ∇ Σ_k ‖mean ψ(A_ω(real images of class k)) - mean ψ(A_ω(distilled images))‖²

ψ is the body of a network with random weights, another one in each step, which is never trained;
A is differentiable Siamese augmentation, with the same amounts ω for both batches of a class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from datastill.augment.dsa import Dsa
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
    initial_images,
    random_network,
)
from datastill.methods.method import Method
from datastill.networks.architecture import Architecture
from datastill.networks.convnet import ConvNet
from datastill.problem import Problem


@dataclass(frozen=True)
class DM(Method[MatchingState]):
    """Distill a labelled source by matching mean features of random networks, class by class.

    The defaults are the paper's for up to 50 images per class.

    Args:
        outer_steps: Updates of the distilled images, each with another random network.
        class_batch: Real images per class and step.
        outer_lr: SGD learning rate of distilled images.
        outer_momentum: SGD momentum of distilled images.
        initial_images: Start from `real` images or from `noise`.
        strategies: Augmentations, one of which is drawn per batch; none: no augmentation.

    Raises:
        ConfigError: An option is outside of its bounds, or the source does not have enough labelled
            images of each class.

    Example:
        >>> import datastill as ds
        >>> problem = ds.Problem(ds.source("digits").load("train"), None, count=10,
        ...                      network=ds.ConvNet(widths=(8,), norm="instance"))
        >>> ds.distill(ds.DM(outer_steps=2, class_batch=32), problem).images.shape
        torch.Size([10, 1, 16, 16])
    """

    variant_options: ClassVar[tuple[str, ...]] = ("initial_images",)
    by_class: ClassVar[bool] = True
    default_network: ClassVar[Architecture] = ConvNet(widths=(128,), norm="instance")

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

    def length(self, problem: Problem) -> int:
        return self.outer_steps

    def init(self, problem: Problem) -> MatchingState:
        x_syn, seed = initial_images(problem, self.initial_images), problem.seed
        return MatchingState(
            x_syn=x_syn,
            optimizer=torch.optim.SGD([x_syn], lr=self.outer_lr, momentum=self.outer_momentum),
            real_generator=fork(seed, "real-images"),
            augmentation_generator=fork(seed, "views"),
        )

    def step(self, problem: Problem, state: MatchingState) -> dict[str, Tensor | float | int]:
        network = random_network(problem, state.step).requires_grad_(False)
        classes = range(len(problem.by_class))
        # Class by class saves memory; batch norm needs the statistics of all classes together.
        groups = [classes] if batch_norm_layers(network) else [(label,) for label in classes]

        losses = []
        state.optimizer.zero_grad()
        for labels in groups:
            pairs = [
                class_batches(
                    problem,
                    state,
                    label,
                    class_batch=self.class_batch,
                    augmentation=Dsa(self.strategies),
                )
                for label in labels
            ]
            x_real, x_syn = zip(*pairs, strict=True)
            with torch.no_grad():
                real_features = problem.machine.forward(network.embed, torch.cat(x_real))
            syn_features = problem.machine.forward(network.embed, torch.cat(x_syn))
            real_means = class_means(real_features, x_real)  # (k, F)
            loss = (real_means - class_means(syn_features, x_syn)).square().sum()
            loss.backward(inputs=[state.x_syn])  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        loss = torch.stack(losses).sum()
        checked_optimizer_step(state.optimizer, loss, {"x_syn": state.x_syn})

        state.step += 1
        return {"outer_loss": loss / len(classes)}

    def result(self, problem: Problem, state: MatchingState) -> DistilledSet:
        return self.pack(
            problem,
            state.x_syn,
            balanced_labels(problem),
            target_kind="hard-label",
            pixel_space="normalized",
        )


def class_means(features: Tensor, batches: Sequence[Tensor]) -> Tensor:  # (B, F) -> (k, F)
    """Return the mean of the features that belong to each of k batches."""
    return torch.stack([f.mean(0) for f in torch.split(features, [len(x) for x in batches])])
