"""FRePo: neural feature regression with pooling (Zhou, Nezhadarya and Ba, NeurIPS 2022).

M images and their label vectors are learned so that, for the features of an inner model trained on
them, kernel ridge regression from them predicts the labels of real images.
"""

import math
from dataclasses import InitVar, dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from datastill.batches import Batches
from datastill.core.options import check_bounds, option
from datastill.core.rng import fork
from datastill.distilled_set import DistilledSet
from datastill.images import ImageSet
from datastill.methods._checked_step import checked_optimizer_step
from datastill.methods._classes import (
    balanced_labels,
    centred_one_hot,
    images_per_class,
    sample_each_class,
    source_label_vectors,
)
from datastill.methods._pool import ModelPool
from datastill.methods.method import Method
from datastill.ops.fusion import fuse_conv_bn
from datastill.ops.krr import krr_predict
from datastill.ops.optimizers import AdamW, Lamb
from datastill.ops.schedules import Cosine, set_learning_rates
from datastill.pretrain import LOSSES
from datastill.problem import Problem

half_square = LOSSES["soft-label"]  # ½‖·‖², as in pre-training on what is distilled here


@dataclass(kw_only=True)
class FRePoState:
    """Everything that changes while distilling; a checkpoint stores all fields."""

    x_syn: Tensor  # (M, C, H, W), normalized pixels
    y_syn: Tensor  # (M, K), label vectors
    optimizer: torch.optim.Optimizer  # of what is learned
    pool: ModelPool
    batches: Batches
    slot_generator: Generator
    pair_generator: Generator
    step: int = 0
    whitened: InitVar[ImageSet]

    def __post_init__(self, whitened: ImageSet) -> None:
        self.source = whitened  # no field: it is whitened again after a resume


@dataclass(frozen=True)
class FRePo(Method[FRePoState]):
    """Distill a labelled source into M images with learned label vectors.

    As KRR-ST, but what the regression predicts are labels. The defaults are the released code's for
    CIFAR-10; the number of steps is its README's.

    Args:
        outer_steps: Updates of the distilled set.
        outer_batch: Real images per outer step (B).
        outer_lr: LAMB learning rate of distilled images and labels, with a cosine schedule.
        learn_labels: Learn the label vectors too.
        margin_weight: Weight of the loss on the margins of the label vectors.
        ridge_of_mean: Ridge as a share of the mean diagonal of the kernel matrix.
        mirror: Mirror images join the regression.
        pool_size: Inner models that are kept side by side.
        max_age: Training steps after which an inner model is replaced.
        inner_lr: Adam learning rate of inner models.
        inner_batch: Distilled pairs per training step of an inner model.
        norm_momentum: Momentum of the running statistics of batch norm.
        zca: Whiten the images.
        zca_ridge_of_mean: Ridge of the whitening as a share of the mean eigenvalue.

    Raises:
        ConfigError: An option is outside of its bounds, or the source does not have enough labelled
            images of each class.

    Example:
        >>> import datastill as ds
        >>> problem = ds.Problem(ds.source("digits").load("train"), None, count=10,
        ...                      network=ds.ConvNet(widths=(8,)))
        >>> ds.distill(ds.FRePo(outer_steps=3, pool_size=2, max_age=4), problem).targets.shape
        torch.Size([10, 10])
    """

    variant_options: ClassVar[tuple[str, ...]] = ("learn_labels", "mirror", "zca")
    by_class: ClassVar[bool] = True
    soft_labels: ClassVar[bool] = True

    outer_steps: int = option(500_000, "updates of the distilled set", at_least=1, smoke=3)
    outer_batch: int = option(1024, "real images per outer step", at_least=1, smoke=8)
    outer_lr: float = option(3e-4, "LAMB learning rate of distilled images and labels", above=0)
    learn_labels: bool = option(True, "learn the label vectors too")
    margin_weight: float = option(1.0, "weight of the loss on margins of labels", at_least=0)
    ridge_of_mean: float = option(1e-6, "ridge as a share of K's mean diagonal", at_least=0)
    mirror: bool = option(
        True, "mirror images join the regression; false for CIFAR-100 with 10 or more per class"
    )
    pool_size: int = option(10, "inner models in the pool", at_least=1, smoke=2)
    max_age: int = option(100, "inner steps in the life of an inner model", at_least=1, smoke=2)
    inner_lr: float = option(3e-4, "Adam learning rate of inner models", above=0)
    inner_batch: int = option(1000, "distilled pairs per inner step", at_least=1, smoke=5)
    norm_momentum: float = option(0.9, "momentum of batch norm's statistics", above=0, below=1)
    zca: bool = option(True, "whiten the images; published as false for MNIST")
    zca_ridge_of_mean: float = option(0.1, "ridge as a share of the mean eigenvalue", at_least=0)

    def __post_init__(self) -> None:
        check_bounds(self)

    def length(self, problem: Problem) -> int:
        return self.outer_steps

    def init(self, problem: Problem) -> FRePoState:
        seed, num_classes = problem.seed, problem.images.num_classes
        source = problem.whitened_source(self.zca_ridge_of_mean) if self.zca else problem.images
        generator = fork(seed, "initial-images")
        chosen = sample_each_class(problem, images_per_class(problem), generator)
        x_syn = problem.network_input(chosen, source)
        y_syn = centred_one_hot(balanced_labels(problem), num_classes).float()
        y_syn /= math.sqrt(num_classes / 10)
        learned = [x_syn, y_syn] if self.learn_labels else [x_syn]
        pool = ModelPool(
            problem,
            outputs=num_classes,
            networks=[problem.network] * self.pool_size,
            max_age=self.max_age,
            optimizer=AdamW(self.inner_lr),
            loss=half_square,
            norm_momentum=self.norm_momentum,
        )
        # First lives end one after another, as in the released code.
        for slot, inner in enumerate(pool.models):
            inner.reset_counter = slot * (self.max_age // self.pool_size)
        return FRePoState(
            x_syn=x_syn,
            y_syn=y_syn,
            optimizer=Lamb(self.outer_lr).make([tensor.requires_grad_() for tensor in learned]),
            pool=pool,
            batches=Batches.over(len(problem.images), fork(seed, "batches")),
            slot_generator=fork(seed, "pool-slots"),
            pair_generator=fork(seed, "pairs"),
            whitened=source,
        )

    def step(self, problem: Problem, state: FRePoState) -> dict[str, Tensor | float | int]:
        slot = int(torch.randint(self.pool_size, (), generator=state.slot_generator))
        inner = state.pool.models[slot]
        age = inner.age

        index = state.batches.draw(self.outer_batch)
        x_real = problem.network_input(index, state.source)  # (B, C, H, W)
        y_real = source_label_vectors(problem, index).float()  # (B, K)
        x_syn, y_syn = state.x_syn, state.y_syn
        if self.mirror:  # 2 M pairs
            x_syn, y_syn = torch.cat([x_syn, x_syn.flip(3)]), torch.cat([y_syn, y_syn])
        # Nothing below trains the inner model: batch norm can be fused into the convolutions.
        body, machine = fuse_conv_bn(inner.network.body), problem.machine
        f_real = machine.forward_in_chunks(body, x_real)  # (B, F), without gradient
        f_syn = machine.forward(body, x_syn)  # (M, F)
        prediction, condition = krr_predict(f_real, f_syn, y_syn, ridge_of_mean=self.ridge_of_mean)
        outer_loss = half_square(prediction, y_real)
        margin_loss = -capped_margin(state.y_syn).mean()
        loss = outer_loss + self.margin_weight * margin_loss

        set_learning_rates(state.optimizer, Cosine(end=0.1), state.step, self.outer_steps)
        state.optimizer.zero_grad()
        loss.backward(inputs=state.optimizer.param_groups[0]["params"])  # type: ignore[no-untyped-call]
        learned = {"x_syn": state.x_syn, "y_syn": state.y_syn}
        checked_optimizer_step(state.optimizer, loss, learned)

        order = torch.randperm(len(state.x_syn), generator=state.pair_generator)
        pairs = machine.to_device(order[: self.inner_batch])
        state.pool.train_or_replace(slot, state.x_syn.detach()[pairs], state.y_syn.detach()[pairs])
        state.step += 1
        return {
            "outer_loss": outer_loss.detach(),
            "margin_loss": margin_loss.detach(),
            "accuracy": (prediction.argmax(1) == y_real.argmax(1)).double().mean(),
            "age": age,
            "kernel_condition": condition,
        }

    def result(self, problem: Problem, state: FRePoState) -> DistilledSet:
        return self.pack(
            problem,
            state.x_syn,
            state.y_syn,
            target_kind="soft-label",
            pixel_space="normalized",
            normalizer=state.source.normalizer,
        )


def capped_margin(labels: Tensor) -> Tensor:  # (M, K) -> (M,)
    """Return by how much the largest of K numbers exceeds the second; at most 1 / K."""
    num_classes = labels.shape[1]
    top = labels.topk(min(2, num_classes), dim=1).values
    return (top[:, 0] - top[:, -1]).clamp_max(1 / num_classes)
