"""Flags and set-up that several commands share: data, runs, the device, components by name."""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from datastill.cli.parser import flag_of
from datastill.core import lookup
from datastill.core.errors import ConfigError
from datastill.core.machine import Machine, PrecisionChoice
from datastill.core.options import Json, check_bounds, from_json, option, options, to_json
from datastill.core.progress import logger
from datastill.core.ranks import TIMEOUT_SECONDS, init_ranks
from datastill.core.run_folder import RunFolder
from datastill.data.source import ImageSource, source
from datastill.images import ImageSet
from datastill.networks.timm import Timm
from datastill.stored_form.compression import Compression
from datastill.stored_form.mosaic import Codec
from datastill.target_model import TargetModel

T = TypeVar("T")

DATA = f"folder:PATH, hf:NAME, {', '.join(lookup.names('datastill.data'))}"
DATA_ROOT = "folder with the official archives; default: the cache, or they are downloaded"
DEVICE = "auto, cpu, cuda or cuda:NUMBER"
RESUME = "continue the run in the out folder; --resume --out DIR is enough"
CHECKPOINTS = "seconds between checkpoints; 0: after every step"
CONFIG = "YAML file with flags, such as the config.yaml of a run"
PRECISION = "number format of networks; auto: bfloat16 if the device has instructions for it"
PROFILE = "profile the third step into profile.txt and profile.json"
# Where a run is stored and how it is watched does not change what it computes.
UNITS = {"": 1, "b": 1, "kb": 1000, "mb": 1_000_000}
NOT_IN_CONFIG = ("out", "resume", "checkpoint_seconds", "profile")


@dataclass(frozen=True)
class SourceOptions:
    """Flags of the commands that read source images."""

    data: str = option("", f"source images: {DATA}")
    data_root: str | None = option(None, DATA_ROOT)
    image_size: int | None = option(
        None, "pixels per side; default: the target model's, or the native size", at_least=1
    )
    limit: int | None = option(None, "use a seeded random subset of so many images", at_least=1)
    seed: int = option(0, "seed of all random numbers", at_least=0)

    def load(self, image_size: int | None) -> ImageSet:
        """Load the training images, or a seeded subset of `limit` of them."""
        images = data_source(self.data).load("train", image_size, path_or_none(self.data_root))
        return images.limit(self.limit, self.seed)


@dataclass(frozen=True)
class StoredForm(Compression):
    """Flags of the commands that code a set; `compression` makes the `Compression` of them."""

    bytes: str | None = option(  # type: ignore[assignment]
        None, "largest size of the file, such as 100kB (1 kB = 1,000 bytes)"
    )
    codec: Codec | None = option(None, "codec of the images; default: avif")  # type: ignore[assignment]


# Flags that config.yaml of earlier versions lacks: it has them where they are given.
NEW_FLAGS = ("start_set", *(o.name for o in options(StoredForm)))


@dataclass(frozen=True)
class RunOptions:
    """Flags of the commands that train something in a run folder."""

    out: str = option("", "run folder to write")
    resume: bool = option(False, RESUME)
    checkpoint_seconds: float = option(60.0, CHECKPOINTS, at_least=0)
    profile: bool = option(False, PROFILE)
    config: str | None = option(None, CONFIG)
    device: str = option("auto", DEVICE)
    precision: PrecisionChoice = option("auto", PRECISION)

    def check_folder(self, config: Json, machine: Machine) -> None:
        """Refuse a run folder that cannot be used, before any work and without writing."""
        if machine.ranks.is_main:
            RunFolder.check(self.out, saved(config), resume=self.resume)

    def open_folder(self, config: Json, data: dict[str, str], machine: Machine) -> RunFolder:
        """Open the run folder; write the configuration and the fingerprints of `data` into it."""
        return RunFolder.open(
            self.out,
            saved(config),
            resume=self.resume,
            data=data,
            checkpoint_seconds=self.checkpoint_seconds,
            ranks=machine.ranks,
            profile=self.profile,
        )


def chosen(cls: type[T], config: Json) -> T:
    """Make the option dataclass of a command from the parsed flags.

    Raises:
        ConfigError: A number is out of bounds; the message names its flag.
    """
    values = cls(**{o.name: config[o.name] for o in options(cls) if o.name in config})
    try:
        check_bounds(values)
    except ConfigError as error:
        name, _, problem = str(error).removeprefix(f"{cls.__name__}: ").partition("=")
        raise ConfigError(f"{flag_of(name)} {problem}") from error
    return values


def compression(config: Json) -> Compression | None:
    """Return the stored form that the flags of `StoredForm` choose; None where none was given.

    Raises:
        ConfigError: A value is out of bounds, or they do not fit together.
    """
    names = [o.name for o in options(StoredForm)]
    given = {name: config[name] for name in names if config.get(name) is not None}
    if "bytes" in given:
        given["bytes"] = _bytes(given["bytes"])
    return Compression(**given) if given else None


def _bytes(text: str) -> int:
    parts = re.fullmatch(r"([\d,_]*\.?\d+) ?([a-z]*)", text.lower())
    if parts is None or parts[2] not in UNITS:
        raise ConfigError(f"--bytes {text}: expected a number of bytes such as 80000, 100kB or 2MB")
    return round(float(parts[1].replace(",", "")) * UNITS[parts[2]])


def saved(config: Json) -> Json:
    """Return what config.yaml keeps of the flags."""
    given = [key for key, value in config.items() if value is not None or key not in NEW_FLAGS]
    kept = {key: config[key] for key in given if key not in NOT_IN_CONFIG}
    if isinstance(kept.get("method"), dict):  # without the defaults of its new options
        method = component("datastill.methods", kept["method"])
        kept["method"] = {"name": kept["method"]["name"], **to_json(method)}
    return kept


def component(package: str, group: Json) -> Any:
    """Make a component from its `name` and options, such as those of `--method`."""
    fields = {key: value for key, value in group.items() if key != "name"}
    return from_json(lookup.find(package, group["name"]), fields)


def path_or_none(text: str | None) -> Path | None:
    """Return the path of a folder, if one was given."""
    return None if text is None else Path(text)


def data_source(name: str) -> ImageSource:
    """Return the data set of a flag such as --data.

    Raises:
        ConfigError: There is no such data set.
    """
    if name not in lookup.names("datastill.data") and Path(name).is_dir():
        raise ConfigError(f"{name} is a folder and no name of a data set; write folder:{name}")
    return source(name)


def timm_network(text: str | None) -> Timm | None:
    """Return the network that `timm:NAME` names, after checking that timm has it; else None."""
    prefix, colon, name = (text or "").partition(":")
    if prefix != "timm" or not colon:
        return None
    network = Timm(name)
    network.min_size()
    return network


def target_model(images: ImageSet, text: str, machine: Machine) -> TargetModel:
    """Load the target model in a folder, or make timm:NAME for images of this size."""
    network = timm_network(text)
    if network is None:
        return TargetModel.load(text, machine)
    size, channels = images.image_size, images.channels
    target = TargetModel.from_timm(
        network.model, image_size=size, channels=channels, machine=machine
    )
    version = target.provenance["timm"]["version"]
    logger.info(f"{text} of timm {version}, {target.dim} outputs, fingerprint {target.fingerprint}")
    return target


@contextlib.contextmanager
def joined_machine(config: Json, timeout_seconds: float = TIMEOUT_SECONDS) -> Iterator[Machine]:
    """Yield the device of this process, which torchrun may have started as one of several ranks.

    The chosen precision is written into `config`. Only rank 0 prints anything, except for an error
    that ends a process.

    Raises:
        ConfigError: The device does not exist, or the environment of torchrun is inconsistent.
        RankFailureError: Another rank crashed, or did not answer for `timeout_seconds`.
    """
    run = chosen(RunOptions, config)
    with (
        init_ranks(run.device, timeout_seconds=timeout_seconds) as ranks,
        contextlib.ExitStack() as stack,
    ):
        machine = Machine.find(run.device, run.precision, ranks)
        config["precision"] = machine.precision
        if not ranks.is_main:
            devnull = stack.enter_context(Path(os.devnull).open("w"))
            stack.enter_context(contextlib.redirect_stdout(devnull))
            stack.enter_context(contextlib.redirect_stderr(devnull))
        if run.precision == "auto":
            logger.info(f"networks compute in {machine.precision}")
        yield machine
