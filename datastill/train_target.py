"""Train a target model on source images by an objective, usually a self-supervised one."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from datastill.augment.views import TwoViews
from datastill.batches import Batches
from datastill.core.errors import ConfigError
from datastill.core.lookup import public_name
from datastill.core.loop import run_steps
from datastill.core.machine import Machine
from datastill.core.options import check_bounds, option, to_json
from datastill.core.profile import profiled
from datastill.core.progress import logger
from datastill.core.ranks import Ranks
from datastill.core.rng import fork, seeded
from datastill.core.run_folder import RunFolder, versions
from datastill.images import ImageSet
from datastill.networks.architecture import Architecture, Network
from datastill.networks.resnet18 import ResNet18
from datastill.objectives.barlow_twins import BarlowTwins
from datastill.objectives.objective import Objective, Views
from datastill.ops.optimizers import AdamW, OptimizerSpec
from datastill.ops.schedules import Cosine, set_learning_rates
from datastill.ops.sync_batch_norm import convert_sync_batch_norm
from datastill.target_model import FILE_NAME, TargetModel
from datastill.target_monitor import TargetMonitor


@dataclass(frozen=True)
class TargetTraining:
    """Settings of training a target model; its length is `steps`, or else `epochs`.

    Args:
        architecture: Network of the target model.
        outputs: Target dimension D. Default: the features of the network, without a head.
        objective: The loss that is minimised, with its heads.
        views: Two-view augmentation.
        optimizer: Of the network and the heads.
        warmup: Share of all steps over which the learning rate rises; then it falls as a cosine.
        batch: Images per step, each in two views.
        epochs: Passes over the source.
        steps: Updates; overrides `epochs`.
        standardize: Whether each output is scaled to mean 0 and deviation 1 on the source.

    Raises:
        ConfigError: An option is outside its range.

    Example:
        >>> import datastill as ds
        >>> training = ds.TargetTraining(ds.ConvNet(widths=(8,)), outputs=4, batch=16, epochs=2)
        >>> training.length(100)
        12
    """

    architecture: Architecture = option(ResNet18(), "network of the target model")
    outputs: int | None = option(
        None, "D; default: the features of the network, without a head", at_least=1
    )
    objective: Objective = option(BarlowTwins(), "what is minimised")
    views: TwoViews = option(TwoViews(), "two-view augmentation")
    optimizer: OptimizerSpec = option(AdamW(lr=1e-3, weight_decay=1e-4), "optimizer")
    warmup: float = option(
        0.05, "share of all steps over which the learning rate rises", at_least=0, below=1
    )
    batch: int = option(256, "images per step, each seen in two views", at_least=2, smoke=8)
    epochs: int = option(200, "passes over the source", at_least=1)
    steps: int | None = option(None, "updates; overrides epochs", at_least=1, smoke=2)
    standardize: bool = option(False, "scale each output to mean 0, deviation 1 on the source")

    def __post_init__(self) -> None:
        check_bounds(self)

    def check(self, images: ImageSet, ranks: int = 1) -> None:
        """Check that the images can be used, before any work.

        Args:
            images: The source.
            ranks: Number of processes that share each batch.

        Raises:
            ConfigError: There are fewer images than one batch, or they are too small, or the
                objective needs labels and they have none, or the batch cannot be divided equally
                among the ranks.
        """
        if self.batch % ranks:
            raise ConfigError(
                f"a batch of {self.batch} images has no equal shares for {ranks} ranks; give a"
                " --batch that is a multiple of their number"
            )
        self.architecture.check(images.image_size)
        if len(images) < self.batch:
            raise ConfigError(
                f"{images.name} has {len(images)} images, less than one batch of {self.batch};"
                " lower --batch"
            )
        if self.objective.needs_labels and images.num_classes < 2:
            raise ConfigError(
                f"the {public_name(self.objective)} objective needs labels of two classes or more,"
                f" and {images.name} has none; choose another --objective"
            )

    def length(self, count: int) -> int:
        """Return the number of updates for `count` images; an incomplete last batch is skipped."""
        return self.steps or self.epochs * max(1, count // self.batch)


@dataclass
class TargetTrainingState:
    """Everything that changes during target training; a checkpoint stores all of it."""

    network: Network
    heads: nn.Module  # those that are trained, and moving averages
    optimizer: torch.optim.Optimizer
    batches: Batches
    views: Generator
    step: int = 0


def train_target(
    images: ImageSet,
    training: TargetTraining | None = None,
    *,
    seed: int = 0,
    machine: Machine | None = None,
    folder: RunFolder | Path | str | None = None,
    monitor: TargetMonitor | None = None,
) -> TargetModel:
    """Train a target model on images.

    Args:
        images: The source (N images); labels are used by a supervised objective only.
        training: Settings. Default: a ResNet-18 by Barlow Twins for 200 epochs.
        seed: Root of all random streams.
        machine: Device, precision and ranks. Default: the CPU in float32.
        folder: Run folder for the log, checkpoints and the target model. A folder that already
            has this run is continued, or its finished target model is loaded. Default: nowhere.
        monitor: Adds held-out numbers to the log; it changes nothing else.

    Returns:
        The frozen target model.

    Raises:
        ConfigError: The images do not fit the settings (`TargetTraining.check`).
        NotFiniteError: The loss diverged.

    Example:
        >>> import datastill as ds
        >>> images = ds.source("glyphs").load("train").limit(32, seed=0)
        >>> network, objective = ds.ConvNet(widths=(8,)), ds.BarlowTwins(projector=(16,))
        >>> training = ds.TargetTraining(network, 4, objective, batch=16, steps=2)
        >>> ds.train_target(images, training).dim
        4
    """
    training, machine = training or TargetTraining(), machine or Machine()
    training.check(images, machine.ranks.size)
    provenance = _provenance(images, training, seed, machine)
    folder = RunFolder.open_or_resume(folder, provenance, machine.ranks)
    if folder is not None and (folder.path / FILE_NAME).exists():
        logger.info(f"{folder.path} is finished already")
        return TargetModel.load(folder.path, machine)
    state = _init(images, training, seed, machine)
    step = partial(_step, images, training, state, machine, monitor)
    saving = None if folder is None else folder.saving("target", provenance)
    length = training.length(len(images))
    cost = run_steps(
        "target",
        state,
        profiled(step, folder),
        length=length,
        saving=saving,
        log=folder,
        lower="--batch",
    )
    target = TargetModel(
        state.network,
        images.normalizer,
        images.image_size,
        architecture=training.architecture,
        provenance=provenance,
        machine=machine,
    )
    if training.standardize:
        target = target.standardized(images)
    if folder is not None and saving is not None and folder.writes:
        target.save(folder.path)
        folder.finish_phase("target", cost)
        saving.clear()
    return target


def _init(
    images: ImageSet, training: TargetTraining, seed: int, machine: Machine
) -> TargetTrainingState:
    with seeded(seed, "target-model"):
        network = training.architecture(
            image_size=images.image_size, channels=images.channels, outputs=training.outputs
        )
        convert_sync_batch_norm(network, machine.ranks)
        heads = training.objective.heads(network, images.num_classes)
    machine.to_device(network)
    machine.to_device(heads)
    trained = [p for p in (*network.parameters(), *heads.parameters()) if p.requires_grad]
    return TargetTrainingState(
        network,
        heads,
        training.optimizer.make(trained),
        Batches.over(len(images), fork(seed, "target-batches")),
        fork(seed, "target-views"),
    )


def _step(
    images: ImageSet,
    training: TargetTraining,
    state: TargetTrainingState,
    machine: Machine,
    monitor: TargetMonitor | None,
    step: int,
) -> dict[str, Tensor | float]:
    length, objective = training.length(len(images)), training.objective
    schedule = Cosine(warmup_steps=int(training.warmup * length))
    set_learning_rates(state.optimizer, schedule, step, length)
    views = _draw(images, training, state, machine)
    state.network.train()
    loss = objective.loss(state.heads, state.network, views)
    state.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    _average_gradients(state.optimizer, machine.ranks)
    state.optimizer.step()
    objective.after_step(state.heads, state.network, progress=step / length)
    state.step += 1
    metrics = monitor.evaluate(state.network, machine) if monitor and monitor.due(step) else {}
    return {"loss": loss.detach(), **metrics}


def _average_gradients(optimizer: torch.optim.Optimizer, ranks: Ranks) -> None:
    """Average the gradients over all ranks, in place."""
    if ranks.size == 1:
        return
    trained = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    for parameter, mean in zip(trained, ranks.average([p.grad for p in trained]), strict=True):
        parameter.grad = mean


def _draw(
    images: ImageSet, training: TargetTraining, state: TargetTrainingState, machine: Machine
) -> Views:
    index = state.batches.draw(training.batch)
    if len(index) < training.batch:  # batch statistics of a small last batch would be noise
        index = state.batches.draw(training.batch)
    unit, share = images.pixels(index, machine.device).float() / 255, machine.ranks.shard
    # All ranks draw the same views and keep their share.
    view_a, view_b = map(share, training.views(unit, state.views))
    pixels = images.normalizer(torch.cat([view_a, view_b]))
    if not training.objective.needs_labels or images.labels is None:
        return Views(pixels, machine=machine)
    return Views(pixels, machine.to_device(share(images.labels[index])), machine=machine)


def _provenance(
    images: ImageSet, training: TargetTraining, seed: int, machine: Machine
) -> dict[str, object]:
    components = {
        name: {"name": public_name(part), **to_json(part)}
        for name, part in vars(training).items()
        if isinstance(part, Architecture | Objective | TwoViews)
    }
    optimizer = {"name": type(training.optimizer).__name__, **to_json(training.optimizer)}
    return {
        "source": {"name": images.name, "fingerprint": images.fingerprint},
        **{**to_json(training), **components, "optimizer": optimizer},
        "seed": seed,
        "precision": machine.precision,
        "versions": versions(),
    }
