"""KRR-ST: kernel ridge regression on self-supervised target (Lee et al., ICLR 2024, Algorithm 1).

M images and M target vectors are learned so that, for the features of an inner model trained on
them, kernel ridge regression from them predicts the target representations of real images.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from datastill.artefact import DistilledSet, PixelSpace
from datastill.augment.crop_flip import CropFlip
from datastill.batches import Batches
from datastill.ground.options import check_bounds, option
from datastill.ground.rng import fork
from datastill.maths.krr import krr_predict, with_bias
from datastill.maths.optimizers import AdamW, Sgd
from datastill.maths.schedules import Linear, set_rates
from datastill.methods._base import AbstractMethod, Problem
from datastill.methods._pool import Member, ModelPool, born
from datastill.methods._update import update
from datastill.networks._base import Network
from datastill.networks._folding import folded
from datastill.target_bank import Filling, Keeping, StoredPrecision


@dataclass
class KRRSTState:
    """What changes during a distillation; whole in every checkpoint."""

    x_syn: Tensor  # (M, C, H, W), in the method's pixel space
    y_syn: Tensor  # (M, D)
    optimizer: torch.optim.Optimizer
    members: list[Member]
    batches: Batches
    views: Generator
    slots: Generator
    step: int = 0


@dataclass(frozen=True)
class KRRST(AbstractMethod[KRRSTState]):
    """Algorithm 1; the defaults are the paper's for CIFAR-100."""

    variant_options: ClassVar[tuple[str, ...]] = ("stale_pool", "pixel_space")
    shares_work: ClassVar[bool] = True

    outer_steps: int = option(160_000, "updates of the distilled set", at_least=1, smoke=3)
    outer_batch: int = option(1024, "real images per outer step", at_least=1, smoke=8)
    outer_lr: float = option(1e-3, "AdamW learning rate of distilled images (and targets)", above=0)
    target_lr: float | None = option(
        None, "AdamW learning rate of targets; default: outer_lr", above=0
    )
    ridge_of_trace: float = option(1e-6, "ridge as a share of the trace of K_mm", at_least=0)
    ridge_of_mean: float = option(
        0.0, "ridge as a share of the mean diagonal of K_mm, added", at_least=0
    )
    pool_size: int = option(10, "inner models in the pool", at_least=1, smoke=2)
    max_age: int = option(
        1000, "inner steps after which an inner model is replaced", at_least=1, smoke=2
    )
    inner_lr: float = option(0.1, "SGD learning rate of inner models", above=0)
    inner_momentum: float = option(0.9, "SGD momentum of inner models", at_least=0, below=1)
    inner_weight_decay: float = option(1e-3, "SGD weight decay of inner models", at_least=0)
    stale_pool: bool = option(False, "replaced inner models never age, as in the released code")
    pixel_space: PixelSpace = option("unit", "space in which distilled images are learned")
    crop_padding: int = option(
        4, "random crops of real images after this zero padding; 0: none", at_least=0
    )
    flip: bool = option(True, "random horizontal flips of real images")
    bank: Filling = option(
        "off", "whether target representations of views are kept, as they come or all ahead"
    )
    bank_precision: StoredPrecision = option(
        "float16", "number format of kept target representations"
    )
    bank_gigabytes: float = option(
        10.0, "room for them, in 10^9 bytes; what does not fit is computed at each use", at_least=0
    )

    def __post_init__(self) -> None:
        check_bounds(self)

    @property
    def needs_target(self) -> bool:
        return True

    @property
    def needs_labels(self) -> bool:
        return False

    def length(self, problem: Problem) -> int:
        return self.outer_steps

    def init(self, problem: Problem) -> KRRSTState:
        seed, images = problem.seed, problem.images
        chosen = torch.randperm(len(images), generator=fork(seed, "initial-images"))[
            : problem.count
        ]
        unit = images.unit_pixels(chosen)
        x_syn = images.normalizer(unit) if self.pixel_space == "normalized" else unit
        x_syn = x_syn.to(problem.machine.device).requires_grad_()
        y_syn = problem.represent(chosen).requires_grad_()
        return KRRSTState(
            x_syn=x_syn,
            y_syn=y_syn,
            optimizer=self._optimizer(x_syn, y_syn),
            members=self._pool(problem).members(),
            batches=Batches.over(len(images), fork(seed, "batches")),
            views=fork(seed, "views"),
            slots=fork(seed, "pool-slots"),
        )

    def step(self, problem: Problem, state: KRRSTState) -> dict[str, Tensor | float | int]:
        pool = self._pool(problem)
        if state.step == 0:  # not in init: a resumed run must not pay for it again
            pairs = self._network_input(problem, state.x_syn).detach(), state.y_syn.detach()
            pool.spread_ages(state.members, *pairs, fork(problem.seed, "pool-ages"))
        slot = int(torch.randint(self.pool_size, (), generator=state.slots))
        age, model = state.members[slot].age, state.members[slot].model
        x_real, g_real = self._real_batch(problem, state)  # (B, C, H, W), (B, D); a rank's share
        condition, *shares = self._outer(problem, model, x_real, g_real, state.x_syn, state.y_syn)

        set_rates(state.optimizer, Linear(end=1e-3), state.step, self.outer_steps)
        joined = problem.world.mean(shares, rows=len(x_real))
        loss, state.x_syn.grad, state.y_syn.grad = joined
        update(state.optimizer, loss, {"x_syn": state.x_syn, "y_syn": state.y_syn})
        pairs = self._network_input(problem, state.x_syn).detach(), state.y_syn.detach()
        pool.advance(state.members, slot, *pairs)
        state.step += 1
        return {"outer_loss": loss, "age": age, "kernel_condition": condition}

    def _outer(
        self,
        problem: Problem,
        model: Network,
        x_real: Tensor,  # (B, C, H, W)
        g_real: Tensor,  # (B, D)
        x_syn: Tensor,  # (M, C, H, W), in the method's pixel space
        y_syn: Tensor,  # (M, D)
    ) -> tuple[Tensor, ...]:
        """The condition of the kernel, the loss, and its gradients in x_syn and y_syn."""
        inner = folded(model.body)
        f_real = with_bias(problem.machine.run_each(inner, x_real))  # (B, F + 1)
        f_syn = with_bias(problem.machine.run(inner, self._network_input(problem, x_syn)))
        prediction, condition = krr_predict(
            f_real,
            f_syn,
            y_syn,
            ridge_of_trace=self.ridge_of_trace,
            ridge_of_mean=self.ridge_of_mean,
        )
        loss = F.mse_loss(prediction, g_real.to(prediction))  # torch 2.11 refuses mixed types
        return condition, loss.detach(), *torch.autograd.grad(loss, [x_syn, y_syn])

    def result(self, problem: Problem, state: KRRSTState) -> DistilledSet:
        return self.pack(
            problem,
            state.x_syn,
            state.y_syn,
            target_kind="representation",
            pixel_space=self.pixel_space,
        )

    def _optimizer(self, x_syn: Tensor, y_syn: Tensor) -> torch.optim.Optimizer:
        target_lr = self.outer_lr if self.target_lr is None else self.target_lr
        images = {"params": [x_syn], "lr": self.outer_lr}
        return AdamW().make([images, {"params": [y_syn], "lr": target_lr}])

    def _pool(self, problem: Problem) -> ModelPool:
        return ModelPool(
            born=partial(born, problem, outputs=problem.needed_target.dim),
            size=self.pool_size,
            max_age=self.max_age,
            optimizer=Sgd(self.inner_lr, self.inner_momentum, self.inner_weight_decay),
            loss=F.mse_loss,
            machine=problem.machine,
            stale=self.stale_pool,
        )

    def _network_input(self, problem: Problem, x_syn: Tensor) -> Tensor:
        return problem.images.normalizer(x_syn) if self.pixel_space == "unit" else x_syn

    def _real_batch(self, problem: Problem, state: KRRSTState) -> tuple[Tensor, Tensor]:
        """A view of each image of the next batch, and its target representation.

        All ranks draw the whole batch, and each takes its share.
        """
        crop_flip = CropFlip(self.crop_padding, self.flip)
        index = state.batches.draw(self.outer_batch)
        view = crop_flip.draw(len(index), state.views)
        index, view = problem.world.share(index), problem.world.share(view)
        unit = crop_flip(problem.real(index), view).float() / 255
        keeping = Keeping(self.bank, self.bank_precision, self.bank_gigabytes)
        return problem.images.normalizer(unit), problem.bank(crop_flip, keeping)(index, view)
