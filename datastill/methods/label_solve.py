"""Label solve for networks: source images, their targets in closed form (in no paper; see KIP).

For given images and given inner models the prediction of KRR-ST is linear in the targets, so that
the targets with the least outer loss solve one system of linear equations.
"""

from dataclasses import InitVar, dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datastill.augment.crop_flip import CropFlip
from datastill.core.lookup import check_name, find, names, public_name
from datastill.core.options import check_bounds, option
from datastill.core.progress import logger
from datastill.core.rng import fork
from datastill.distilled_set import DistilledSet
from datastill.methods._pool import ModelPool
from datastill.methods._starts import START_HELP, StartImages, start_pairs
from datastill.methods.method import Method
from datastill.networks.architecture import Architecture
from datastill.ops.fusion import fuse_conv_bn
from datastill.ops.krr import krr_map, with_bias
from datastill.ops.label_solve import LeastSquares, rescale
from datastill.ops.optimizers import Sgd
from datastill.problem import Problem
from datastill.target_cache import CacheMode, StoredPrecision, TargetCache

NETWORKS = "datastill.networks"


@dataclass(frozen=True)
class Start:
    """What stays as it is: the images with their first targets, and where targets come from."""

    original: Tensor  # (M, C, H, W), unit pixels
    x: Tensor  # (M, C, H, W), normalized
    y: Tensor  # (M, D)
    cache: TargetCache


@dataclass(frozen=True)
class TrainedModel:
    """What is needed of an inner model, once it is trained, to predict its real images."""

    body: nn.Module
    weights: Tensor  # (F + 1, M) float64: features · weights · targets is the prediction
    condition: Tensor  # (), of the kernel ridge regression
    index: Tensor  # (n,) int64, real images
    view: Tensor  # (n,) int64, their crops and flips


@dataclass(kw_only=True)
class LabelSolveState:
    """Everything that changes while distilling; a checkpoint stores all fields."""

    y_syn: Tensor  # (M, D), the first targets until the first round is solved
    pool: ModelPool  # one inner model at a time of each architecture
    equations: LeastSquares  # of this round, with M unknowns
    by_feature: list[LeastSquares | None]  # of this inner model, where it has fewer features than M
    model: int = 0  # inner models that are done
    batch: int = 0  # real batches that are done with the present one
    first: InitVar[Start]

    def __post_init__(self, first: Start) -> None:
        self.start = first  # no fields: they are computed again after a resume
        self.trained: TrainedModel | None = None


@dataclass(frozen=True)
class LabelSolve(Method[LabelSolveState]):
    """Pair source images with the targets that predict real images best.

    The images are those of `random-subset` unless `start` says otherwise, or those of the set that
    the problem starts from, and stay as they are; networks see them as decoded where the problem
    has a compression. One after the other, inner models are trained on them, each from new weights
    to an age of its own. Then they predict real images by kernel ridge regression from the M
    images, as in the outer loss of KRR-ST, and the targets with the least squared error over all
    inner models are solved for.

    Args:
        start: The images: `random` ones, or those of the method `high-loss` or `k-means`.
        rounds: Times that targets are solved; inner models of a later round are trained on those of
            the round before.
        inner_models: Inner models per round.
        inner_networks: Their architectures, in turn, such as `convnet,resnet10`: that of the
            problem has its options, others have their defaults. Empty: the problem's alone.
        max_age: Training steps of an inner model at most, drawn uniformly from 0.
        real_images: Real images that each inner model predicts, drawn anew for each; all where the
            source has fewer.
        real_batch: Of them per step.
        eps: Weight of the first targets in the equations, as a share of their mean diagonal.
        rescale: Stretch each component of the solved targets about the mean of the target model's
            outputs, to the standard deviation of these.
        ridge_of_trace: Ridge as a share of the trace of the M x M kernel matrix.
        ridge_of_mean: Ridge as a share of its mean diagonal, added.
        inner_batch: Of the M images per training step of an inner model. None: all of them.
        inner_lr: SGD learning rate of inner models.
        inner_momentum: SGD momentum of inner models.
        inner_weight_decay: SGD weight decay of inner models.
        crop_padding: Zero padding before random crops of real images; 0 for no crops.
        flip: Flip half of the real images.
        bank: Cache of target representations: `off`, `lazy` or `full` (`TargetCache`).
        bank_precision: Number format of cached representations.
        bank_gigabytes: Room for them, in 10^9 bytes.

    Raises:
        ConfigError: An option is outside of its bounds, the problem has no target model, or its
            images are too small for an architecture.
        SingularKernelError: The equations cannot be solved.

    Example:
        >>> import datastill as ds, torch
        >>> images = ds.source("digits").load("train").limit(200, seed=0)
        >>> target = ds.TargetModel(torch.nn.Flatten(), images.normalizer, images.image_size)
        >>> problem = ds.Problem(images, target, count=10, network=ds.ConvNet(widths=(8,)))
        >>> distilled = ds.distill(ds.LabelSolve(inner_models=2, max_age=4), problem)
        >>> distilled.images.shape, distilled.targets.shape
        (torch.Size([10, 1, 16, 16]), torch.Size([10, 256]))
    """

    variant_options: ClassVar[tuple[str, ...]] = ("start", "rounds", "inner_networks", "rescale")
    takes_start_set: ClassVar[bool] = True

    start: StartImages = option("random", START_HELP, omit_default=True)
    rounds: int = option(1, "times that targets are solved", at_least=1)
    inner_models: int = option(6, "inner models per round", at_least=1, smoke=2)
    inner_networks: tuple[str, ...] = option(
        (), "architectures of inner models, in turn, such as convnet,resnet10; default: --network"
    )
    max_age: int = option(
        300, "training steps of an inner model at most, drawn from 0", at_least=0, smoke=2
    )
    real_images: int = option(
        10_000, "real images that each inner model predicts", at_least=1, smoke=16
    )
    real_batch: int = option(1024, "of them per step", at_least=1, smoke=8)
    eps: float = option(
        0.1, "weight of the first targets, as a share of the equations' mean diagonal", at_least=0
    )
    rescale: bool = option(True, "solved targets get the deviations of the target model's outputs")
    ridge_of_trace: float = option(1e-6, "ridge as a share of the trace of K_mm", at_least=0)
    ridge_of_mean: float = option(
        0.0, "ridge as a share of the mean diagonal of K_mm, added", at_least=0
    )
    inner_batch: int | None = option(
        128, "of the M images per training step of an inner model; null: all of them", at_least=1
    )
    inner_lr: float = option(0.1, "SGD learning rate of inner models", above=0)
    inner_momentum: float = option(0.9, "SGD momentum of inner models", at_least=0, below=1)
    inner_weight_decay: float = option(1e-3, "SGD weight decay of inner models", at_least=0)
    crop_padding: int = option(
        0, "random crops of real images after this zero padding; 0: none", at_least=0
    )
    flip: bool = option(False, "random horizontal flips of real images")
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
        for name in self.inner_networks:
            check_name(name, names(NETWORKS), kind="networks")

    @property
    def needs_target(self) -> bool:
        return True

    def check(self, problem: Problem) -> None:
        super().check(problem)
        for architecture in self._architectures(problem):
            architecture.check(problem.images.image_size)

    def length(self, problem: Problem) -> int:
        ages = self._ages(problem)
        return sum(ages) + len(ages) * self._batches(problem)

    def init(self, problem: Problem) -> LabelSolveState:
        images, target, machine = problem.images, problem.needed_target, problem.machine
        architectures = self._architectures(problem)
        pairs = start_pairs(self, problem, self.start, stream="random-subset")
        dim = pairs.y.shape[1]
        cache = TargetCache(
            target,
            images,
            CropFlip(self.crop_padding, self.flip),
            mode=self.bank,
            precision=self.bank_precision,
            max_gigabytes=self.bank_gigabytes,
            folder=problem.cache,
        )
        x = images.normalizer(machine.to_device(pairs.images))
        start = Start(pairs.original, x, pairs.y, cache)
        pool = ModelPool(
            problem,
            outputs=dim,
            networks=architectures,
            max_age=self.max_age,
            optimizer=Sgd(self.inner_lr, self.inner_momentum, self.inner_weight_decay),
            loss=F.mse_loss,
        )
        features = [inner.network.num_features + 1 for inner in pool.models]
        return LabelSolveState(
            y_syn=start.y.clone(),
            pool=pool,
            equations=LeastSquares.zeros(problem.count, dim, machine.device),
            by_feature=[
                LeastSquares.zeros(f, dim, machine.device) if f < problem.count else None
                for f in features
            ],
            first=start,
        )

    def step(self, problem: Problem, state: LabelSolveState) -> dict[str, Tensor | float | int]:
        """Train an inner model by one step, or let it predict one batch of real images."""
        slot = state.model % len(state.pool.models)
        inner = state.pool.models[slot]
        if inner.age < self._ages(problem)[state.model]:
            batch = self._inner_batch(problem, state.model, inner.age)
            return {"inner_loss": state.pool.train(slot, state.start.x[batch], state.y_syn[batch])}

        trained = state.trained = state.trained or self._trained(problem, state)
        f_real, g_real = self._real_batch(problem, state, trained)  # (B, F + 1), (B, D)
        by_feature = state.by_feature[slot]
        if by_feature is None:
            state.equations.add(f_real @ trained.weights, g_real)
        else:
            by_feature.add(f_real, g_real)
        prediction = f_real @ (trained.weights @ state.y_syn.double())
        metrics: dict[str, Tensor | float | int] = {
            "outer_loss": F.mse_loss(prediction, g_real.double()),
            "age": inner.age,
            "kernel_condition": trained.condition,
        }
        state.batch += 1
        if state.batch < self._batches(problem):
            return metrics

        if by_feature is not None:
            state.equations.add_mapped(by_feature, trained.weights)
            by_feature.clear()
        state.pool.replace(slot)
        state.model, state.batch, state.trained = state.model + 1, 0, None
        if state.model % self.inner_models:
            return metrics
        return {**metrics, **self._solve(state)}

    def result(self, problem: Problem, state: LabelSolveState) -> DistilledSet:
        return self.pack(
            problem,
            state.start.original,
            state.y_syn,
            target_kind="representation",
            pixel_space="unit",
        )

    def _solve(self, state: LabelSolveState) -> dict[str, Tensor | float | int]:
        """Put the solved targets in place, and forget the equations."""
        equations = state.equations
        logger.info(f"solving for the targets of {len(state.y_syn)} images")
        y = equations.solve(state.start.y, share_of_start=self.eps)
        metrics: dict[str, Tensor | float | int] = {"solved_loss": equations.mean_squared_error(y)}
        if self.rescale:
            y = rescale(y, equations.mean, equations.deviation)
            metrics["rescaled_loss"] = equations.mean_squared_error(y)
        state.y_syn = y.to(state.y_syn.dtype)
        equations.clear()
        return metrics

    def _trained(self, problem: Problem, state: LabelSolveState) -> TrainedModel:
        """Return the present inner model as a regression from the M images, and its real images."""
        model, seed, start = state.model, problem.seed, state.start
        inner = state.pool.models[model % len(state.pool.models)]
        body = fuse_conv_bn(inner.network.body)
        weights, condition = krr_map(
            with_bias(problem.machine.forward_in_chunks(body, start.x)),
            ridge_of_trace=self.ridge_of_trace,
            ridge_of_mean=self.ridge_of_mean,
        )
        order = torch.randperm(len(problem.images), generator=fork(seed, "label-solve-real", model))
        index = order[: self.real_images]
        view = start.cache.crop_flip.draw(len(index), fork(seed, "label-solve-views", model))
        return TrainedModel(body, weights, condition, index, view)

    def _inner_batch(self, problem: Problem, model: int, age: int) -> slice | Tensor:
        """Return which of the M images an inner model is trained on in this step."""
        if self.inner_batch is None or self.inner_batch >= problem.count:
            return slice(None)
        generator = fork(problem.seed, "label-solve-inner-batch", model, age)
        order = torch.randperm(problem.count, generator=generator)
        return problem.machine.to_device(order[: self.inner_batch])

    def _real_batch(
        self, problem: Problem, state: LabelSolveState, trained: TrainedModel
    ) -> tuple[Tensor, Tensor]:
        """Return features with a bias, float64, and target representations of the next batch."""
        cache = state.start.cache
        index = torch.split(trained.index, self.real_batch)[state.batch]
        view = torch.split(trained.view, self.real_batch)[state.batch]
        unit = cache.crop_flip(problem.source_pixels(index), view).float() / 255
        x_real = problem.images.normalizer(unit)
        f_real = problem.machine.forward_in_chunks(trained.body, x_real)
        return with_bias(f_real).double(), problem.coordinates(cache(index, view))

    def _batches(self, problem: Problem) -> int:
        """Real batches of each inner model."""
        return -(-min(self.real_images, len(problem.images)) // self.real_batch)

    def _ages(self, problem: Problem) -> list[int]:
        """Draw the age of each inner model of all rounds uniformly from 0..max_age."""
        generator = fork(problem.seed, "label-solve-ages")
        count = self.rounds * self.inner_models
        ages: list[int] = torch.randint(self.max_age + 1, (count,), generator=generator).tolist()
        return ages

    def _architectures(self, problem: Problem) -> list[Architecture]:
        """Return those of the inner models, which take turns."""
        own = public_name(problem.network)
        return [
            problem.network if name == own else find(NETWORKS, name)()
            for name in self.inner_networks
        ] or [problem.network]
