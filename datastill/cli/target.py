"""Train a target model on images, or take a trained network of timm.

Labels are not used, unless the objective is supervised.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from datastill.augment.views import TwoViews
from datastill.cli import shared_flags
from datastill.cli.parser import CommandParser
from datastill.core.errors import ConfigError
from datastill.core.machine import Machine
from datastill.core.options import Json, from_json, option, options
from datastill.core.progress import logger
from datastill.images import ImageSet
from datastill.networks.timm import Timm
from datastill.ops.optimizers import AdamW, Lars, OptimizerSpec, Sgd
from datastill.target_model import FILE_NAME, TargetModel
from datastill.target_monitor import TargetMonitor
from datastill.train_target import TargetTraining, train_target

EXAMPLE = "datastill target --data folder:my-photos --image-size 32 --out targets/mine"
MONITOR_IMAGES = 5000  # of each split, at most
HELD_OUT = 0.2  # share of the images that the monitor tests on where there is no test split
OPTIMIZERS: dict[str, OptimizerSpec] = {
    "adamw": AdamW(lr=1e-3, weight_decay=1e-4),
    "sgd": Sgd(lr=0.05, weight_decay=1e-4),
    "lars": Lars(),
}
TRAINING = ("outputs", "warmup", "epochs", "steps", "standardize")  # fields that are flags as well
BATCH = "images per step, each seen in two views; default: 256, or all of a smaller source"
MONITOR = (
    "steps between evaluations on held-out images by k-NN and a linear probe (labels are used for"
    " this only), or by signs of collapse if there are no labels; 0: none"
)
WEIGHTS = (
    "instead of training, weights for --network timm:NAME: a .safetensors file, or public, which"
    " timm downloads"
)


@dataclass(frozen=True)
class Target:
    """Flags of `datastill target` beside those of the training and its components."""

    batch: int | None = option(None, BATCH, at_least=2)
    optimizer: Literal["adamw", "sgd", "lars"] = option("adamw", "optimizer of the weights")
    lr: float | None = option(None, "learning rate; default: the optimizer's", above=0)
    weight_decay: float | None = option(None, "weight decay; default: the optimizer's", at_least=0)
    monitor_every: int = option(0, MONITOR, at_least=0)
    weights: str | None = option(None, WEIGHTS)


def make_parser(arguments: Sequence[str]) -> CommandParser:
    """Return the parser of the command."""
    parser = CommandParser("target", arguments, __doc__, EXAMPLE, required=("data", "out"))
    parser.add_options(shared_flags.SourceOptions, title="source")
    if parser.value_of("weights"):
        training = [*(x.name for x in options(Target)), *TRAINING, "objective", "views"]
        excluded = set(training) - {"weights", "standardize"}
        parser.refuse(excluded, "is for training, and --weights brings a trained network")
        if not (network := str(parser.value_of("network") or "resnet18")).startswith("timm"):
            raise ConfigError(f"--weights is for --network timm:NAME, not for {network}")
        parser.add_options(TargetTraining, only=("standardize",), title="outputs")
        parser.add_options(Target, only=("weights",), title="trained network")
    else:
        parser.add_options(TargetTraining, only=TRAINING, title="training")
        parser.add_options(Target, title="optimization and monitoring")
        parser.add_component("objective", "datastill.objectives", "barlow-twins")
        parser.add_options(TwoViews, "views", title="views")
    parser.add_options(shared_flags.RunOptions, title="run")
    parser.add_component("network", "datastill.networks", "resnet18")
    return parser


def run(config: Json) -> None:
    """Train or load the target model and print the path of its file."""
    run_options = shared_flags.chosen(shared_flags.RunOptions, config)
    source_options = shared_flags.chosen(shared_flags.SourceOptions, config)
    flags = shared_flags.chosen(Target, config)
    if flags.weights is None:  # the config.yaml of earlier versions lacks it
        config.pop("weights", None)
    with shared_flags.joined_machine(config) as machine:
        run_options.check_folder(config, machine)
        training = None if flags.weights else _training(flags, config)
        images = source_options.load(source_options.image_size)
        data = {"source images": images.fingerprint}
        if training is None:
            target = _trained(str(flags.weights), images, config, machine)
            folder = run_options.open_folder(
                config, {**data, "target model": target.fingerprint}, machine
            )
            if folder.writes:
                target.save(folder.path)
        else:
            if flags.batch is None:
                training = replace(training, batch=min(training.batch, len(images)))
            training.check(images, machine.ranks.size)
            monitor = _monitor(flags.monitor_every, source_options, images)
            if not training.objective.needs_labels:
                images = images.unlabelled()
            folder = run_options.open_folder(config, data, machine)
            target = train_target(
                images,
                training,
                seed=source_options.seed,
                machine=machine,
                folder=folder,
                monitor=monitor,
            )
        logger.info(f"target model of {target.dim} outputs, fingerprint {target.fingerprint[:16]}")
        print(folder.path / FILE_NAME)


def _trained(weights: str, images: ImageSet, config: Json, machine: Machine) -> TargetModel:
    """Load weights into the network of timm for images like these."""
    network: Timm = shared_flags.component("datastill.networks", config["network"])
    target = TargetModel.from_timm(
        network.model,
        image_size=images.image_size,
        channels=images.channels,
        weights=weights,
        enlarge_to=network.enlarge_to,
        machine=machine,
    )
    if config["standardize"]:
        target = target.standardized(images)
    source = {"name": images.name, "fingerprint": images.fingerprint}
    provenance = {**target.provenance, "source": source, "standardize": config["standardize"]}
    return replace(target, provenance=provenance)


def _monitor(
    every: int, options: shared_flags.SourceOptions, images: ImageSet
) -> TargetMonitor | None:
    """Fit the classifiers of the monitor on training images, and test them on the test split."""
    if not every:
        return None
    data, root = (
        shared_flags.data_source(options.data),
        shared_flags.path_or_none(options.data_root),
    )
    if "test" in data.origin(images.image_size, root).splits:
        train, test = images, data.load("test", images.image_size, root)
    else:
        logger.info(
            f"{data.name} has no test split: the monitor tests on images that are trained on"
        )
        train, test = images.split(HELD_OUT, options.seed)
    train, test = (part.limit(MONITOR_IMAGES, options.seed) for part in (train, test))
    return TargetMonitor(train, test, every)


def _training(flags: Target, config: Json) -> TargetTraining:
    rates = {"lr": flags.lr, "weight_decay": flags.weight_decay}
    optimizer: Any = OPTIMIZERS[flags.optimizer]  # all of them have these two fields
    return TargetTraining(
        architecture=shared_flags.component("datastill.networks", config["network"]),
        objective=shared_flags.component("datastill.objectives", config["objective"]),
        views=from_json(TwoViews, config["views"]),
        optimizer=replace(optimizer, **{k: v for k, v in rates.items() if v is not None}),
        batch=flags.batch or TargetTraining.batch,
        **{name: config[name] for name in TRAINING},
    )
