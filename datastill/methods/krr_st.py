"""KRR-ST: kernel ridge regression on self-supervised target (Lee et al., ICLR 2024, Algorithm 1).

M images and M target vectors are learned so that, for the features of an inner model trained on
them, kernel ridge regression from them predicts the target representations of real images.
"""

from dataclasses import InitVar, dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from datastill.augment.crop_flip import CropFlip
from datastill.batches import Batches
from datastill.core.options import check_bounds, option
from datastill.core.rng import fork
from datastill.distilled_set import DistilledSet, PixelSpace
from datastill.methods._checked_step import checked_optimizer_step
from datastill.methods._pool import ModelPool
from datastill.methods._starts import START_HELP, StartImages, start_pairs
from datastill.methods.method import Method
from datastill.ops.fusion import fuse_conv_bn
from datastill.ops.krr import krr_predict, with_bias
from datastill.ops.optimizers import AdamW, Sgd
from datastill.ops.schedules import Linear, set_learning_rates
from datastill.problem import Problem
from datastill.target_cache import CacheMode, StoredPrecision, TargetCache


@dataclass(kw_only=True)
class KRRSTState:
    """Everything that changes while distilling; a checkpoint stores all fields."""

    x_syn: Tensor  # (M, C, H, W), learned images, in the method's pixel space
    y_syn: Tensor  # (M, D), learned target representations
    optimizer: torch.optim.Optimizer  # of both
    pool: ModelPool
    batches: Batches
    view_generator: Generator
    slot_generator: Generator
    step: int = 0
    cache: InitVar[TargetCache]

    def __post_init__(self, cache: TargetCache) -> None:
        self.target_cache = cache  # no field: it is filled again after a resume


@dataclass(frozen=True)
class KRRST(Method[KRRSTState]):
    """Distill a source into M images with learned target representations.

    In every outer step an inner model, trained for a while on the current distilled set, maps
    images to features. Kernel ridge regression from the M distilled pairs predicts the target
    model's representations of a batch of real images, and the distilled images and representations
    take a gradient step on the squared error. Then the inner model is trained by one more step, or
    replaced by a new one once it has reached `max_age`. The defaults are the paper's for CIFAR-100.

    Args:
        start: First images: `random` ones, or those of the method `high-loss` or `k-means`.
        outer_steps: Updates of the distilled set.
        outer_batch: Real images per outer step (B).
        outer_lr: AdamW learning rate of the distilled images, decayed linearly to a thousandth.
        target_lr: AdamW learning rate of the distilled representations. Default: `outer_lr`.
        ridge_of_trace: Ridge as a share of the trace of the M x M kernel matrix.
        ridge_of_mean: Ridge as a share of its mean diagonal, added.
        pool_size: Inner models that are kept side by side.
        max_age: Training steps after which an inner model is replaced.
        inner_lr: SGD learning rate of inner models.
        inner_momentum: SGD momentum of inner models.
        inner_weight_decay: SGD weight decay of inner models.
        stale_pool: Replaced inner models stay untrained, as in the released code.
        pixel_space: Learn `unit` pixels, or `normalized` ones.
        crop_padding: Zero padding before random crops of real images; 0 for no crops.
        flip: Flip half of the real images.
        bank: Cache of target representations: `off`, `lazy` or `full` (`TargetCache`).
        bank_precision: Number format of cached representations.
        bank_gigabytes: Room for them, in 10^9 bytes.

    Raises:
        ConfigError: An option is outside of its bounds, or the problem has no target model.

    Example:
        >>> import datastill as ds, torch
        >>> images = ds.source("digits").load("train").take(torch.arange(50))
        >>> target = ds.TargetModel(torch.nn.Flatten(), images.normalizer, images.image_size)
        >>> problem = ds.Problem(images, target, count=10, network=ds.ConvNet(widths=(8,)))
        >>> distilled = ds.distill(ds.KRRST(outer_steps=3, pool_size=2, max_age=4), problem)
        >>> distilled.images.shape, distilled.targets.shape
        (torch.Size([10, 1, 16, 16]), torch.Size([10, 256]))
    """

    variant_options: ClassVar[tuple[str, ...]] = ("start", "stale_pool", "pixel_space")
    shares_work: ClassVar[bool] = True
    takes_start_set: ClassVar[bool] = True

    start: StartImages = option("random", START_HELP, omit_default=True)
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
    bank: CacheMode = option(
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

    def length(self, problem: Problem) -> int:
        return self.outer_steps

    def init(self, problem: Problem) -> KRRSTState:
        seed, images, target = problem.seed, problem.images, problem.needed_target
        pairs = start_pairs(self, problem, self.start, stream="initial-images")
        x_syn = pairs.images
        if self.pixel_space == "normalized":
            x_syn = images.normalizer(x_syn)
        x_syn = x_syn.to(problem.machine.device).requires_grad_()
        y_syn = pairs.y.requires_grad_()
        target_lr = self.outer_lr if self.target_lr is None else self.target_lr
        return KRRSTState(
            x_syn=x_syn,
            y_syn=y_syn,
            optimizer=AdamW().make(
                [{"params": [x_syn], "lr": self.outer_lr}, {"params": [y_syn], "lr": target_lr}]
            ),
            pool=ModelPool(
                problem,
                outputs=y_syn.shape[1],
                networks=[problem.network] * self.pool_size,
                max_age=self.max_age,
                optimizer=Sgd(self.inner_lr, self.inner_momentum, self.inner_weight_decay),
                loss=F.mse_loss,
            ),
            batches=Batches.over(len(images), fork(seed, "batches")),
            view_generator=fork(seed, "views"),
            slot_generator=fork(seed, "pool-slots"),
            cache=TargetCache(
                target,
                images,
                CropFlip(self.crop_padding, self.flip),
                mode=self.bank,
                precision=self.bank_precision,
                max_gigabytes=self.bank_gigabytes,
                folder=problem.cache,
            ),
        )

    def warm_up_length(self, problem: Problem) -> int:
        return sum(self._initial_ages(problem))

    def warm_up_step(self, problem: Problem, state: KRRSTState) -> dict[str, Tensor | float | int]:
        """Train the first inner model that has not reached its initial age by one step."""
        ages = zip(state.pool.models, self._initial_ages(problem), strict=True)
        slot = next(slot for slot, (inner, age) in enumerate(ages) if inner.age < age)
        return {"inner_loss": state.pool.train(slot, *self._training_pairs(problem, state))}

    def step(self, problem: Problem, state: KRRSTState) -> dict[str, Tensor | float | int]:
        slot = int(torch.randint(self.pool_size, (), generator=state.slot_generator))
        inner = state.pool.models[slot]
        age = inner.age

        x_real, g_real = self._real_batch(problem, state)  # (B, C, H, W), (B, D)
        # Nothing below trains the inner model: batch norm can be fused into the convolutions.
        body, machine = fuse_conv_bn(inner.network.body), problem.machine
        f_real = with_bias(machine.forward_in_chunks(body, x_real))  # (B, F + 1), without gradient
        f_syn = with_bias(machine.forward(body, self._network_input(problem, state.x_syn)))
        prediction, condition = krr_predict(  # (B, D) from (M, F + 1) and (M, D)
            f_real,
            f_syn,
            state.y_syn,
            ridge_of_trace=self.ridge_of_trace,
            ridge_of_mean=self.ridge_of_mean,
        )
        loss = F.mse_loss(prediction, g_real.to(prediction))
        gradients = torch.autograd.grad(loss, [state.x_syn, state.y_syn])

        # Each rank has seen its share of the batch; all of them take the same step.
        loss, state.x_syn.grad, state.y_syn.grad = problem.ranks.average(
            [loss.detach(), *gradients], rows=len(x_real)
        )
        set_learning_rates(state.optimizer, Linear(end=1e-3), state.step, self.outer_steps)
        # Checked before the update: one NaN would spoil the distilled set for good.
        learned = {"x_syn": state.x_syn, "y_syn": state.y_syn}
        checked_optimizer_step(state.optimizer, loss, learned)

        x_syn, y_syn = self._training_pairs(problem, state)
        state.pool.train_or_replace(slot, x_syn, y_syn, stale=self.stale_pool)
        state.step += 1
        return {"outer_loss": loss, "age": age, "kernel_condition": condition}

    def result(self, problem: Problem, state: KRRSTState) -> DistilledSet:
        return self.pack(
            problem,
            state.x_syn,
            state.y_syn,
            target_kind="representation",
            pixel_space=self.pixel_space,
        )

    def _choose(self, problem: Problem) -> Tensor:  # (M,) int64
        generator = fork(problem.seed, "initial-images")
        return torch.randperm(len(problem.images), generator=generator)[: problem.count]

    def _real_batch(self, problem: Problem, state: KRRSTState) -> tuple[Tensor, Tensor]:
        """Return a view of each image of the next batch, and its target representation.

        All ranks draw the whole batch, and each takes its share.
        """
        crop_flip = state.target_cache.crop_flip
        index = state.batches.draw(self.outer_batch)
        view = crop_flip.draw(len(index), state.view_generator)
        index, view = problem.ranks.shard(index), problem.ranks.shard(view)
        unit = crop_flip(problem.source_pixels(index), view).float() / 255
        g = problem.coordinates(state.target_cache(index, view))
        return problem.images.normalizer(unit), g

    def _initial_ages(self, problem: Problem) -> list[int]:
        """Draw the initial age of each inner model uniformly from 1..max_age - 1.

        The upper end is left out as in the released code, whose `numpy.random.randint` excludes it.
        """
        generator, above = fork(problem.seed, "pool-ages"), max(2, self.max_age)
        return [
            int(torch.randint(1, above, (), generator=generator)) for _ in range(self.pool_size)
        ]

    def _network_input(self, problem: Problem, x_syn: Tensor) -> Tensor:
        return problem.images.normalizer(x_syn) if self.pixel_space == "unit" else x_syn

    def _training_pairs(self, problem: Problem, state: KRRSTState) -> tuple[Tensor, Tensor]:
        """Return what inner models are trained on: normalized images and representations."""
        return self._network_input(problem, state.x_syn).detach(), state.y_syn.detach()
