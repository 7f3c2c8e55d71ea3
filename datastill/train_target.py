"""Loop 1: source images and a self-supervised objective make a target model."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from datastill.augment.views import TwoViews
from datastill.batches import Batches
from datastill.ground.errors import ConfigError
from datastill.ground.lookup import public_name
from datastill.ground.loop import run_steps
from datastill.ground.machine import Machine
from datastill.ground.options import check_bounds, option, to_json
from datastill.ground.progress import say
from datastill.ground.rng import fork, seeded
from datastill.ground.run_folder import RunFolder, versions
from datastill.images import ImageSet
from datastill.maths.optimizers import AdamW, OptimizerSpec
from datastill.maths.schedules import Cosine, set_rates
from datastill.networks._base import AbstractArchitecture, Network
from datastill.networks.resnet18 import ResNet18
from datastill.objectives._base import AbstractObjective
from datastill.objectives.barlow_twins import BarlowTwins
from datastill.target_model import FILE_NAME, TargetModel


@dataclass(frozen=True)
class TargetTraining:
    """How a target model is trained; either `steps` or `epochs` says for how long."""

    architecture: AbstractArchitecture = option(ResNet18(), "network of the target model")
    outputs: int | None = option(
        None, "D; default: the features of the network, without a head", at_least=1
    )
    objective: AbstractObjective = option(BarlowTwins(), "self-supervised objective")
    views: TwoViews = option(TwoViews(), "two-view augmentation")
    optimizer: OptimizerSpec = option(AdamW(lr=1e-3, weight_decay=1e-4), "optimizer")
    warmup: float = option(
        0.05, "share of all steps over which the learning rate rises", at_least=0, below=1
    )
    batch: int = option(256, "images per step, each seen in two views", at_least=2)
    epochs: int = option(200, "passes over the source", at_least=1)
    steps: int | None = option(None, "updates; overrides epochs", at_least=1)
    standardize: bool = option(False, "scale each output to mean 0, deviation 1 on the source")

    def __post_init__(self) -> None:
        check_bounds(self)

    def check(self, images: ImageSet) -> None:
        """Refuse a source that this training cannot use, before any work.

        Raises:
            ConfigError: it has fewer images than one batch, or they are too small.
        """
        self.architecture.check(images.image_size)
        if len(images) < self.batch:
            raise ConfigError(
                f"{images.name} has {len(images)} images, less than one batch of {self.batch};"
                " lower --batch"
            )

    def length(self, count: int) -> int:
        """Updates for a source of `count` images; a rest smaller than a batch is left out."""
        return self.steps or self.epochs * max(1, count // self.batch)


@dataclass
class TargetTrainingState:
    """What changes during target training; whole in every checkpoint."""

    network: Network
    projector: nn.Module
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
) -> TargetModel:
    """Train a target model on unlabelled images; with a folder, log, checkpoint and save there.

    A folder that has this run in it is continued; where it was finished, its target model is read.

    Raises:
        ConfigError: fewer images than one batch, or too small for the network.
        NotFiniteError: the loss diverged.
    """
    training, machine = training or TargetTraining(), machine or Machine()
    training.check(images)
    provenance = _provenance(images, training, seed, machine)
    folder = RunFolder.of(folder, provenance)
    if folder is not None and (folder.path / FILE_NAME).exists():
        say(f"{folder.path} is finished already")
        return TargetModel.load(folder.path, machine)
    state = _init(images, training, seed, machine)
    length = training.length(len(images))
    saving = None if folder is None else folder.saving("target", provenance)
    cost = run_steps(
        "target",
        state,
        partial(_step, images, training, state, machine, length),
        length=length,
        saving=saving,
        log=folder,
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
    if folder is not None and saving is not None:
        target.save(folder.path)
        folder.finish_phase("target", cost)
        saving.clear()
    return target


def _init(
    images: ImageSet,
    training: TargetTraining,
    seed: int,
    machine: Machine,
) -> TargetTrainingState:
    with seeded(seed, "target-model"):
        network = training.architecture(
            image_size=images.image_size, channels=images.channels, outputs=training.outputs
        )
        projector = training.objective.head(network.outputs).to(machine.device)
    machine.place(network)
    return TargetTrainingState(
        network,
        projector,
        training.optimizer.make([*network.parameters(), *projector.parameters()]),
        Batches.over(len(images), fork(seed, "target-batches")),
        fork(seed, "target-views"),
    )


def _step(
    images: ImageSet,
    training: TargetTraining,
    state: TargetTrainingState,
    machine: Machine,
    length: int,
    step: int,
) -> dict[str, Tensor]:
    index = state.batches.draw(training.batch)
    if len(index) < training.batch:  # batch statistics of a small rest would be noise
        index = state.batches.draw(training.batch)
    unit = images.unit_pixels(index).to(machine.device)
    views = torch.cat(training.views(unit, state.views))
    schedule = Cosine(warmup_steps=int(training.warmup * length))
    set_rates(state.optimizer, schedule, step, length)
    state.network.train()
    outputs = machine.run(state.network, images.normalizer(views))
    z_a, z_b = state.projector(outputs).chunk(2)
    loss = training.objective.loss(z_a, z_b)
    state.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    state.optimizer.step()
    state.step += 1
    return {"loss": loss.detach()}


def _provenance(
    images: ImageSet, training: TargetTraining, seed: int, machine: Machine
) -> dict[str, object]:
    named = {
        name: {"name": public_name(part), **to_json(part)}
        for name, part in vars(training).items()
        if isinstance(part, AbstractArchitecture | AbstractObjective | TwoViews)
    }
    optimizer = {"name": type(training.optimizer).__name__, **to_json(training.optimizer)}
    return {
        "source": {"name": images.name, "fingerprint": images.fingerprint},
        **{**to_json(training), **named, "optimizer": optimizer},
        "seed": seed,
        "precision": machine.precision,
        "versions": versions(),
    }
