"""FRePo: neural feature regression with pooling (Zhou, Nezhadarya and Ba, NeurIPS 2022).

M images and their label vectors are learned so that, for the features of an inner model trained on
them, kernel ridge regression from them predicts the labels of real images.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Generator, Tensor

from datastill.artefact import DistilledSet
from datastill.batches import Batches
from datastill.ground.options import check_bounds, option
from datastill.ground.rng import fork
from datastill.images import ImageSet
from datastill.maths.krr import krr_predict
from datastill.maths.optimizers import AdamW, Lamb
from datastill.maths.schedules import Cosine, set_rates
from datastill.methods._base import AbstractMethod, Problem
from datastill.methods._classes import balanced_labels, draw_of_each_class, images_per_class
from datastill.methods._label_vectors import capped_margin, centred, labelled_batch
from datastill.methods._pool import Member, ModelPool, born
from datastill.methods._update import update
from datastill.networks._folding import folded
from datastill.pretrain import LOSSES

half_square = LOSSES["soft-label"]  # ½‖·‖², as in pre-training on what is distilled here


@dataclass
class FRePoState:
    """What changes during a distillation; whole in every checkpoint."""

    x_syn: Tensor  # (M, C, H, W), normalized pixels
    y_syn: Tensor  # (M, K)
    optimizer: torch.optim.Optimizer
    members: list[Member]
    batches: Batches
    slots: Generator
    pairs: Generator
    step: int = 0


@dataclass(frozen=True)
class FRePo(AbstractMethod[FRePoState]):
    """The defaults are the released code's for CIFAR-10; the number of steps is its README's."""

    variant_options: ClassVar[tuple[str, ...]] = ("learn_labels", "mirror", "zca")
    by_class: ClassVar[bool] = True

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

    @property
    def needs_target(self) -> bool:
        return False

    @property
    def needs_labels(self) -> bool:
        return True

    def length(self, problem: Problem) -> int:
        return self.outer_steps

    def init(self, problem: Problem) -> FRePoState:
        seed, per_class = problem.seed, images_per_class(problem)
        chosen = draw_of_each_class(problem, per_class, fork(seed, "initial-images"))
        x_syn = self._source(problem).normalized(chosen).to(problem.machine.device)
        y_syn = centred(balanced_labels(problem), problem.images.num_classes).float()
        y_syn /= math.sqrt(y_syn.shape[1] / 10)
        learned = [x_syn, y_syn] if self.learn_labels else [x_syn]
        return FRePoState(
            x_syn=x_syn,
            y_syn=y_syn,
            optimizer=Lamb(self.outer_lr).make([tensor.requires_grad_() for tensor in learned]),
            members=self._pool(problem).members(staggered=True),
            batches=Batches.over(len(problem.images), fork(seed, "batches")),
            slots=fork(seed, "pool-slots"),
            pairs=fork(seed, "pairs"),
        )

    def step(self, problem: Problem, state: FRePoState) -> dict[str, Tensor | float | int]:
        slot = int(torch.randint(self.pool_size, (), generator=state.slots))
        age, inner = state.members[slot].age, folded(state.members[slot].model.body)
        index = state.batches.draw(self.outer_batch)
        x_real, y_real = labelled_batch(problem, self._source(problem), index)
        f_real = problem.machine.run_each(inner, x_real)  # (B, F)
        x_syn, y_syn = self._regressed(state)
        f_syn = problem.machine.run(inner, x_syn)  # (M, F)
        prediction, condition = krr_predict(f_real, f_syn, y_syn, ridge_of_mean=self.ridge_of_mean)
        outer_loss = half_square(prediction, y_real)
        margin_loss = -capped_margin(state.y_syn).mean()

        set_rates(state.optimizer, Cosine(end=0.1), state.step, self.outer_steps)
        state.optimizer.zero_grad()
        loss = outer_loss + self.margin_weight * margin_loss
        loss.backward(inputs=state.optimizer.param_groups[0]["params"])  # type: ignore[no-untyped-call]
        update(state.optimizer, loss, {"x_syn": state.x_syn, "y_syn": state.y_syn})
        self._pool(problem).advance(state.members, slot, *self._inner_batch(problem, state))
        state.step += 1
        accuracy = (prediction.argmax(1) == y_real.argmax(1)).double().mean()
        losses = {"outer_loss": outer_loss.detach(), "margin_loss": margin_loss.detach()}
        return {**losses, "accuracy": accuracy, "age": age, "kernel_condition": condition}

    def result(self, problem: Problem, state: FRePoState) -> DistilledSet:
        return self.pack(
            problem,
            state.x_syn,
            state.y_syn,
            target_kind="soft-label",
            pixel_space="normalized",
            normalizer=self._source(problem).normalizer,
        )

    def _regressed(self, state: FRePoState) -> tuple[Tensor, Tensor]:
        """The distilled pairs, and their mirror images with the same labels."""
        x_syn, y_syn = state.x_syn, state.y_syn
        if not self.mirror:
            return x_syn, y_syn
        return torch.cat([x_syn, x_syn.flip(3)]), torch.cat([y_syn, y_syn])

    def _pool(self, problem: Problem) -> ModelPool:
        num_classes, momentum = problem.images.num_classes, self.norm_momentum
        return ModelPool(
            born=partial(born, problem, outputs=num_classes, norm_momentum=momentum),
            size=self.pool_size,
            max_age=self.max_age,
            optimizer=AdamW(self.inner_lr),
            loss=half_square,
            machine=problem.machine,
        )

    def _source(self, problem: Problem) -> ImageSet:
        return problem.whitened(self.zca_ridge_of_mean) if self.zca else problem.images

    def _inner_batch(self, problem: Problem, state: FRePoState) -> tuple[Tensor, Tensor]:
        """Different distilled pairs to train an inner model on."""
        order = torch.randperm(len(state.x_syn), generator=state.pairs)
        index = problem.machine.here(order[: self.inner_batch])
        return state.x_syn.detach()[index], state.y_syn.detach()[index]
