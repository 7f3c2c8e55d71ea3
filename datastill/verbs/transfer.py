"""datastill transfer: pre-train on distilled sets and judge on target data."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from datastill.artefact import DistilledSet
from datastill.command.understand import Command
from datastill.data._base import source
from datastill.flags import Transfer
from datastill.ground.errors import ArtefactError, ConfigError
from datastill.ground.lookup import find
from datastill.ground.machine import Machine
from datastill.ground.options import Json, from_json
from datastill.ground.run_folder import RunFolder
from datastill.held_out import HeldOut
from datastill.networks._base import AbstractArchitecture
from datastill.origins import Origin, from_distilled, from_scratch, from_target
from datastill.pretrain import PRETRAINING, Pretraining
from datastill.protocols._base import Protocol, protocol
from datastill.report.build import build
from datastill.target_model import FILE_NAME, TargetModel
from datastill.transfer._base import AbstractTask, TaskData
from datastill.transfer_rows import Judges, transfer_rows
from datastill.verbs._components import component, folder_of, target_for, timm_named
from datastill.verbs._ranks import joined_machine

SCRATCH = "scratch"
ROW_SECONDS = 30 * 86400.0  # ranks wait for each other's rows; one that dies is missed at once
Loaded = DistilledSet | TargetModel


def main(command: Command) -> None:
    """Measure all rows and print their table."""
    assert isinstance(command.flags, Transfer)
    flags = command.flags
    with joined_machine(flags.device, flags.precision, patience_seconds=ROW_SECONDS) as machine:
        _transfer(command.settled(precision=machine.precision), flags, machine)


def _transfer(command: Command, flags: Transfer, machine: Machine) -> None:
    out, world = _out(flags), machine.world
    if world.writes:
        RunFolder.check(out, command.config, resume=flags.resume)
    origins = _Origins(flags, command.groups, machine)
    judges = _judges(flags, command.groups, origins.image_size, machine)
    work = [(origin, range(flags.seeds)) for origin in origins.all_for(judges.targets)]
    judges.check()
    for origin, _ in work:
        judges.check_origin(origin)
    folder = RunFolder.open(
        out,
        command.config,
        resume=flags.resume,
        checkpoint_seconds=flags.checkpoint_seconds,
        world=world,
    )
    transfer_rows(work, judges, machine=machine, folder=folder)
    if world.writes:
        files = build([folder.path], folder.path / "report")
        print(files.table_markdown.read_text(encoding="utf-8"))


def _out(flags: Transfer) -> Path:
    if flags.out is not None:
        return Path(flags.out)
    first = Path(flags.origins[0])
    if str(first) == SCRATCH or timm_named(str(first)):
        raise ConfigError(f"--out is missing: {first} has no folder of its own")
    return (first if first.is_dir() else first.parent) / "transfer"


def _judges(flags: Transfer, groups: Json, size: int, machine: Machine) -> Judges:
    tasks: Sequence[AbstractTask] = [_task(name, groups) for name in dict.fromkeys(flags.task)]
    if flags.protocol is not None:
        tasks = protocol(flags.protocol).tasks
    root = folder_of(flags.data_root)
    data = [TaskData.load(name, size, root) for name in dict.fromkeys(flags.to)]
    if flags.held_out is None:
        return Judges(tasks, data)
    if not flags.target:
        raise ConfigError("--held-out compares with a target model; pass its folder as --target")
    images = source(flags.held_out).load("test", size, root).unlabelled()
    target = target_for(images, flags.target, machine)
    target.check_images(images)
    return Judges(tasks, data, HeldOut(images, target))


def _task(name: str, groups: Json) -> AbstractTask:
    task: AbstractTask = from_json(find("datastill.transfer", name), groups[name.replace("-", "_")])
    return task


@dataclass(frozen=True)
class _Origins:
    """What networks start from, as the words before the flags say."""

    flags: Transfer
    groups: Json
    machine: Machine

    @cached_property
    def loaded(self) -> dict[str, Loaded]:
        """Distilled sets and target models by the words that name them; those of files only."""
        words = [word for word in self.flags.origins if word != SCRATCH and not timm_named(word)]
        return {word: _load(word, self.machine) for word in words}

    @cached_property
    def image_size(self) -> int:
        """Pixels on a side: of the origins, which must agree; else of the target data."""
        sizes = {word: origin.image_size for word, origin in self.loaded.items()}
        asked = self.flags.image_size
        if asked is not None:
            sizes["--image-size"] = asked
        if len(set(sizes.values())) > 1:
            said = ", ".join(f"{word} {size}" for word, size in sizes.items())
            raise ConfigError(f"image sizes differ ({said}); transfer from one size at a time")
        return next(iter(sizes.values())) if sizes else source(self.flags.to[0]).size(None)

    def all_for(self, targets: Sequence[TaskData]) -> list[Origin]:
        """One origin per word, in order, once they are known to fit the target data."""
        for word, loaded in self.loaded.items():
            _check_channels(word, loaded, targets)
        words = dict.fromkeys(self.flags.origins)
        found = [origin for word in words for origin in self._origins(word, targets[0])]
        for origin in found:
            origin.architecture.check(self.image_size)
        return found

    @cached_property
    def protocol(self) -> Protocol | None:
        """The published settings that were asked for."""
        return None if self.flags.protocol is None else protocol(self.flags.protocol)

    def _origins(self, word: str, data: TaskData) -> list[Origin]:
        """One per length of pre-training, where there is any."""
        if timm_named(word):
            public = target_for(data.train, word, self.machine)
            return [from_target(public, protocol=self.flags.protocol or "")]
        origin = self.loaded.get(word)
        if isinstance(origin, TargetModel):
            return [from_target(origin, protocol=self.flags.protocol or "")]
        if not isinstance(origin, DistilledSet):
            return [self._scratch(data)]
        own = self._network(origin)
        if self.protocol is not None:
            lengths: Sequence[int | None] = list(dict.fromkeys(self.flags.pretrain_epochs)) or [
                None
            ]
            made = partial(self.protocol.origin, origin, own, self.machine)
            return [made(epochs=epochs) for epochs in lengths]
        return [from_distilled(origin, own, self.machine, _pretraining(self.flags, origin))]

    def _scratch(self, data: TaskData) -> Origin:
        sets = [found for found in self.loaded.values() if isinstance(found, DistilledSet)]
        network = self._network(sets[0] if sets else None)
        if self.protocol is not None:
            network = self.protocol.network(self.image_size, network)
        return from_scratch(
            network,
            self.machine,
            image_size=data.train.image_size,
            channels=data.train.channels,
            dim=sets[0].outputs if sets else data.train.num_classes,
            protocol=self.flags.protocol or "",
        )

    def _network(self, distilled: DistilledSet | None) -> AbstractArchitecture:
        """The network asked for, else the one that the set was distilled with."""
        if "network" in self.groups:
            chosen: AbstractArchitecture = component("datastill.networks", self.groups["network"])
            return chosen
        known: dict[str, Any] = {} if distilled is None else distilled.provenance
        own: AbstractArchitecture = component(
            "datastill.networks", known.get("network") or {"name": "convnet"}
        )
        return own


def _load(word: str, machine: Machine) -> Loaded:
    path = Path(word)
    if path.name == FILE_NAME or (path / FILE_NAME).exists():
        return TargetModel.load(path, machine)
    if not path.exists():
        raise ArtefactError(
            f"there is no {word}; give files or run folders of distilled sets or target models,"
            f" or {SCRATCH}"
        )
    return DistilledSet.load(path)


def _check_channels(word: str, origin: Loaded, targets: Sequence[TaskData]) -> None:
    channels = len(origin.normalizer.mean)
    for data in targets:
        if data.train.channels != channels:
            raise ConfigError(
                f"{word} has images of {channels} channels, {data.name} of"
                f" {data.train.channels}; choose target data of the same kind as the source"
            )


def _pretraining(flags: Transfer, distilled: DistilledSet) -> Pretraining:
    row, epochs = PRETRAINING[distilled.target_kind], flags.pretrain_epochs
    if epochs and flags.pretrain_steps is not None:
        raise ConfigError(
            "--pretrain-epochs and --pretrain-steps contradict; leave one of them out"
        )
    if len(epochs) > 1:
        raise ConfigError(
            f"--pretrain-epochs {','.join(map(str, epochs))}: several lengths are a sweep of a"
            " protocol; pass --protocol too, or one length"
        )
    if epochs:
        return replace(row, epochs=epochs[0], steps=None)
    return row if flags.pretrain_steps is None else replace(row, steps=flags.pretrain_steps)
