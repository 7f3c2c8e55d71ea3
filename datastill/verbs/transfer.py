"""datastill transfer: pre-train on distilled sets and judge on target data."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datastill.artefact import DistilledSet
from datastill.data._base import source
from datastill.flags import Transfer
from datastill.ground.errors import ConfigError
from datastill.ground.lookup import find
from datastill.ground.machine import Machine
from datastill.ground.options import Json, from_json
from datastill.ground.run_folder import RunFolder
from datastill.held_out import HeldOut
from datastill.networks._base import AbstractArchitecture
from datastill.networks.convnet import ConvNet
from datastill.origins import Origin, from_distilled, from_scratch, from_target
from datastill.pretrain import PRETRAINING, Pretraining
from datastill.report.build import build
from datastill.target_model import FILE_NAME, TargetModel
from datastill.transfer._base import AbstractTask, TaskData
from datastill.transfer_rows import Judges, transfer_rows
from datastill.verbs._components import component, required

Loaded = DistilledSet | TargetModel | None  # None is scratch


def main(flags: Transfer, groups: Json, config: Json) -> None:
    """Measure all rows and print their table."""
    names = required(flags.to, "--to", "cifar10,folder:my-photos").split(",")
    machine = Machine.find(flags.device, flags.precision)
    loaded = [_load(text, machine) for text in flags.origins]
    size = _image_size(flags, loaded)
    root = None if flags.data_root is None else Path(flags.data_root)
    data = [TaskData.load(name, size, root) for name in names]
    tasks = [_task(name, groups) for name in flags.task.split(",")]
    held_out = _held_out(flags, size, root, machine)
    origins = _origins(flags, groups, loaded, data[0], machine)
    if flags.seeds < 1:
        raise ConfigError(f"--seeds {flags.seeds}: give at least 1")
    folder = RunFolder.open(_out(flags), config, resume=flags.resume)
    work = [(origin, range(flags.seeds)) for origin in origins]
    transfer_rows(work, Judges(tasks, data, held_out), machine=machine, folder=folder)
    files = build([folder.path], folder.path / "report")
    print(files.table_markdown.read_text(encoding="utf-8"))


def _load(text: str, machine: Machine) -> Loaded:
    if text == "scratch":
        return None
    path = Path(text)
    if path.name == FILE_NAME or (path / FILE_NAME).exists():
        return TargetModel.load(path, machine)
    return DistilledSet.load(path)


def _image_size(flags: Transfer, loaded: Sequence[Loaded]) -> int:
    sizes = {origin.image_size for origin in loaded if origin is not None}
    if flags.image_size is not None:
        sizes.add(flags.image_size)
    if len(sizes) == 1:
        return sizes.pop()
    if not sizes:
        raise ConfigError("scratch alone needs --image-size")
    raise ConfigError(f"the origins have different image sizes {sorted(sizes)}; run them apart")


def _task(name: str, groups: Json) -> AbstractTask:
    task: AbstractTask = from_json(find("datastill.transfer", name), groups[name.replace("-", "_")])
    return task


def _held_out(flags: Transfer, size: int, root: Path | None, machine: Machine) -> HeldOut | None:
    if flags.held_out is None:
        return None
    target = TargetModel.load(required(flags.target, "--target", "targets/mine"), machine)
    return HeldOut(source(flags.held_out).load("test", size, root).unlabelled(), target)


def _origins(
    flags: Transfer,
    groups: Json,
    loaded: Sequence[Loaded],
    data: TaskData,
    machine: Machine,
) -> list[Origin]:
    sets = [origin for origin in loaded if isinstance(origin, DistilledSet)]
    chosen = (
        component("datastill.networks", groups["network"]) if groups["network"]["name"] else None
    )
    made = []
    for origin in loaded:
        if isinstance(origin, TargetModel):
            made.append(from_target(origin))
        elif origin is not None:
            pretraining = _pretraining(flags, origin)
            made.append(
                from_distilled(origin, chosen or _own_network(origin), machine, pretraining)
            )
        else:
            made.append(
                from_scratch(
                    chosen or (_own_network(sets[0]) if sets else ConvNet()),
                    machine,
                    image_size=data.train.image_size,
                    channels=data.train.channels,
                    dim=sets[0].outputs if sets else data.train.num_classes,
                )
            )
    return made


def _own_network(distilled: DistilledSet) -> AbstractArchitecture:
    """The network that the set was distilled with, where it says so."""
    fields: dict[str, Any] = dict(distilled.provenance.get("network") or {"name": "convnet"})
    network: AbstractArchitecture = component("datastill.networks", fields)
    return network


def _pretraining(flags: Transfer, distilled: DistilledSet) -> Pretraining:
    row = PRETRAINING[distilled.target_kind]
    if flags.pretrain_epochs is not None:
        return replace(row, epochs=flags.pretrain_epochs, steps=None)
    return row if flags.pretrain_steps is None else replace(row, steps=flags.pretrain_steps)


def _out(flags: Transfer) -> Path:
    if flags.out is not None:
        return Path(flags.out)
    first = Path(flags.origins[0])
    if str(first) == "scratch":
        raise ConfigError("--out is missing: scratch has no folder of its own")
    return (first if first.is_dir() else first.parent) / "transfer"
