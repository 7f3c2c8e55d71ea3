"""datastill target: train a target model."""

from dataclasses import replace
from typing import Any

from datastill.augment.views import TwoViews
from datastill.command.understand import Command
from datastill.data._base import source
from datastill.flags import Target
from datastill.ground.machine import Machine
from datastill.ground.options import Json, from_json
from datastill.ground.progress import say
from datastill.ground.run_folder import RunFolder
from datastill.images import ImageSet
from datastill.maths.optimizers import AdamW, Lars, OptimizerSpec, Sgd
from datastill.target_model import FILE_NAME
from datastill.target_monitor import TargetMonitor
from datastill.train_target import TargetTraining, train_target
from datastill.verbs._components import component, folder_of, load_source
from datastill.verbs._ranks import joined_machine

MONITOR_IMAGES = 5000  # at most so many of either split are looked at
HELD_OUT = 0.2  # share of the images that are asked where there is no test split
OPTIMIZERS: dict[str, OptimizerSpec] = {
    "adamw": AdamW(lr=1e-3, weight_decay=1e-4),
    "sgd": Sgd(lr=0.05, weight_decay=1e-4),
    "lars": Lars(),
}


def main(command: Command) -> None:
    """Train on the images and print where the target model is."""
    assert isinstance(command.flags, Target)
    with joined_machine(command.flags.device, command.flags.precision) as machine:
        _train(command.settled(precision=machine.precision), command.flags, machine)


def _train(command: Command, flags: Target, machine: Machine) -> None:
    if machine.world.writes:
        RunFolder.check(flags.out, command.config, resume=flags.resume)
    training = _training(flags, command.groups)
    images = load_source(flags.data, flags.image_size, flags.data_root, flags.limit, flags.seed)
    if flags.batch is None:
        training = replace(training, batch=min(training.batch, len(images)))
    training.check(images, machine.world.size)
    monitor = _monitor(flags, images)
    folder = RunFolder.open(
        flags.out,
        command.config,
        resume=flags.resume,
        checkpoint_seconds=flags.checkpoint_seconds,
        profile=flags.profile,
        world=machine.world,
    )
    target = train_target(
        images if training.objective.needs_labels else images.unlabelled(),
        training,
        seed=flags.seed,
        machine=machine,
        folder=folder,
        monitor=monitor,
    )
    say(f"target model of {target.dim} outputs, fingerprint {target.fingerprint[:16]}")
    print(folder.path / FILE_NAME)


def _monitor(flags: Target, images: ImageSet) -> TargetMonitor | None:
    """Known images are a part of those trained on; the asked ones are of the test split."""
    if not flags.monitor_every:
        return None
    found, root = source(flags.data), folder_of(flags.data_root)
    origin = found.origin(images.image_size, root)
    if "test" in (found.splits if origin is None else origin.splits):
        known, asked = images, found.load("test", images.image_size, root)
    else:
        say(f"{found.name} has no test split: it is monitored on images that are trained on")
        known, asked = images.split(HELD_OUT, flags.seed)
    known, asked = (x.limit(MONITOR_IMAGES, flags.seed) for x in (known, asked))
    return TargetMonitor(known, asked, flags.monitor_every)


def _training(flags: Target, groups: Json) -> TargetTraining:
    return TargetTraining(
        architecture=component("datastill.networks", groups["network"]),
        outputs=flags.outputs,
        objective=component("datastill.objectives", groups["objective"]),
        views=from_json(TwoViews, groups["views"]),
        optimizer=_optimizer(flags),
        warmup=flags.warmup,
        batch=flags.batch or TargetTraining.batch,
        epochs=flags.epochs,
        steps=flags.steps,
        standardize=flags.standardize,
    )


def _optimizer(flags: Target) -> OptimizerSpec:
    given = {"lr": flags.lr, "weight_decay": flags.weight_decay}
    known: Any = OPTIMIZERS[flags.optimizer]  # each kind has these two fields
    optimizer: OptimizerSpec = replace(known, **{k: v for k, v in given.items() if v is not None})
    return optimizer
