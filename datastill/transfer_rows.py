"""Loop 4: networks of any origin, target data, tasks and seeds make transfer rows.

Rows are appended to `rows.jsonl` as they are measured; a killed run skips those that it finds.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from datastill.ground.atomic import write_text
from datastill.ground.errors import ConfigError
from datastill.ground.lookup import public_name
from datastill.ground.loop import Saving, peak_memory_bytes
from datastill.ground.machine import Machine
from datastill.ground.options import non_default, to_json
from datastill.ground.progress import say
from datastill.ground.run_folder import RunFolder, versions
from datastill.held_out import HeldOut
from datastill.networks._base import AbstractArchitecture, Network
from datastill.origins import Origin
from datastill.transfer._base import (
    AbstractTask,
    Measured,
    Start,
    TaskData,
    TransferRow,
    check_same_classes,
)

Key = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Judges:
    """What every network is judged by."""

    tasks: Sequence[AbstractTask] = ()
    targets: Sequence[TaskData] = ()
    held_out: HeldOut | None = None  # for networks whose outputs are target representations

    def check(self) -> None:
        """Refuse target data that a task cannot use, before any work."""
        for task in self.tasks:
            for data in self.targets:
                task.check(data)

    def check_origin(self, origin: Origin) -> None:
        """Refuse networks that a task cannot judge, before any work.

        Raises:
            ConfigError: they were pre-trained, but on no distilled images that the task could use,
                or to give other outputs than the classes that the task asks for.
        """
        for task in self.tasks:
            if task.asks_outputs:
                self._check_classes(task, origin)
            if task.trains_on_distilled and origin.artefact and origin.distilled is None:
                raise ConfigError(
                    f"{public_name(task)} trains on distilled images, and {origin.title} has none;"
                    " give distilled sets, or scratch for Gaussian noise"
                )

    def _check_classes(self, task: AbstractTask, origin: Origin) -> None:
        if origin.distilled is not None:
            for data in self.targets:
                check_same_classes(origin.distilled, data)
        elif origin.artefact:
            raise ConfigError(
                f"{public_name(task)} judges outputs that are classes, and {origin.title} gives"
                " representations; give distilled sets with class labels, or scratch"
            )


def transfer_rows(
    work: Sequence[tuple[Origin, Sequence[int]]],  # origins, each with its seeds
    judges: Judges,
    *,
    machine: Machine,
    folder: RunFolder,
    shared: RunFolder | None = None,
) -> list[TransferRow]:
    """Measure what `folder` has no rows of yet, and return all its rows.

    A network is made once per seed, and only if something of it is still to be measured. What rows
    of several folders can share, such as a teacher, is kept in `shared`; default: `folder`.

    Raises:
        ConfigError: a task cannot judge the networks of an origin.
    """
    for origin, _ in work:
        judges.check_origin(origin)
    file = folder.path / "rows.jsonl"
    rows = read_rows(file)
    done = {_key_of(row) for row in rows}
    jobs = [(origin, seed) for origin, seeds in work for seed in seeds]
    for number, (origin, seed) in enumerate(jobs, start=1):
        job = _Job(origin, seed, machine, folder, shared or folder, f"{number}/{len(jobs)}")
        rows += job.measure_all(judges, done)
    return rows


def read_rows(file: Path) -> list[TransferRow]:
    """The rows of a file; where a kill cut its last line short, the rows of that task are dropped.

    They are dropped from the file too, so that the task is measured again with all its settings.
    """
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = [TransferRow(**json.loads(line)) for line in lines if line.endswith("\n")]
    if len(rows) < len(lines):
        torn = _key_of(rows[-1]) if rows else None
        while rows and _key_of(rows[-1]) == torn:
            rows.pop()
        write_text(file, "".join(lines[: len(rows)]))
    return rows


def architecture_text(architecture: AbstractArchitecture) -> str:
    """Such as `convnet(widths=[32, 64, 128])`: the name and what differs from the defaults."""
    changed = ", ".join(f"{k}={v}" for k, v in non_default(architecture).items())
    return public_name(architecture) + (f"({changed})" if changed else "")


@dataclass
class _Job:
    """One origin and one seed: the network is made when it is first needed."""

    origin: Origin
    seed: int
    machine: Machine
    folder: RunFolder
    shared: RunFolder
    number: str
    network: Network | None = None

    def measure_all(self, judges: Judges, done: set[Key]) -> list[TransferRow]:
        rows = []
        for task in judges.tasks:
            for data in judges.targets:
                saving = self._saving(public_name(task), to_json(task), data.name)
                if self._key(public_name(task), to_json(task), data.name) not in done:
                    rows += self._task(task, data, saving)
                saving.clear()  # its rows are kept, now or before an earlier kill
        held_out = judges.held_out
        if held_out is not None and self.origin.regresses(held_out.target):
            name = held_out.images.name.partition("/")[0]
            if self._key("held-out-r2", None, name) not in done:
                rows += self._held_out(held_out, name)
        self._saving("pre-train", None, "").clear()
        return rows

    def _task(self, task: AbstractTask, data: TaskData, saving: Saving) -> list[TransferRow]:
        network = self._network()
        task.check_network(network, data)
        data = data.fed_like(self.origin.distilled)
        started = time.monotonic()
        start = Start(
            network,
            self.origin.architecture,
            self.seed,
            self.machine,
            saving,
            self.origin.distilled,
            self.shared,
        )
        found = task.measure(start, data)
        row = self._row(public_name(task), data.name, time.monotonic() - started)
        row = replace(row, options={**row.options, "task": to_json(task)})
        return self._keep(row, found)

    def _held_out(self, held_out: HeldOut, name: str) -> list[TransferRow]:
        started = time.monotonic()
        r2 = held_out.r2(self._network(), self.machine)
        row = self._row("held-out-r2", name, time.monotonic() - started)
        return self._keep(row, [Measured("", None, r2, 0)])

    def _network(self) -> Network:
        if self.network is None:
            say(f"transfer {self.number}: {self.origin.title}, seed {self.seed}")
            saving = self._saving("pre-train", None, "")
            self.network = self.origin.make(self.seed, saving)
        return self.network

    def _saving(self, phase: str, options: object, data: str) -> Saving:
        """Each piece of work has a file of its own, so that none meets what another one left."""
        key = self._key(phase, options, data)
        digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]
        return self.folder.saving(f"{phase}-{digest}", {"origin": key})

    def _row(self, task: str, data: str, seconds: float) -> TransferRow:
        origin, distilled = self.origin, self.origin.distilled
        return TransferRow(
            method=origin.method,
            variant=origin.variant,
            count=origin.count,
            source=origin.source,
            data=data,
            task=task,
            setting="",
            network=architecture_text(origin.architecture),
            seed=self.seed,
            accuracy_percent=None,
            r_squared=None,
            steps=0,
            wall_seconds=round(seconds, 3),
            peak_memory_bytes=peak_memory_bytes(),
            artefact=origin.artefact,
            versions=versions(),
            options=origin.options,
            protocol=origin.protocol,
            target_kind="" if distilled is None else distilled.target_kind,
            set_bytes=0 if distilled is None else distilled.num_bytes,
            pretrain_steps=origin.pretrain_steps,
        )

    def _keep(self, row: TransferRow, found: list[Measured]) -> list[TransferRow]:
        rows = [replace(row, **asdict(measured)) for measured in found]
        lines = "".join(json.dumps(asdict(r)) + "\n" for r in rows)
        self.folder.append_text("rows.jsonl", lines)  # at once: a kill leaves all or none
        return rows

    def _key(self, task: str, options: object, data: str) -> Key:
        origin = self.origin
        network = (origin.method, architecture_text(origin.architecture))
        made = (
            origin.artefact,
            *network,
            origin.protocol,
            _json(origin.options.get("pretraining")),
        )
        return *made, task, _json(options), data, str(self.seed)


def _key_of(row: TransferRow) -> Key:
    made = (
        row.artefact,
        row.method,
        row.network,
        row.protocol,
        _json(row.options.get("pretraining")),
    )
    return *made, row.task, _json(row.options.get("task")), row.data, str(row.seed)


def _json(options: object) -> str:
    return json.dumps(options, sort_keys=True)
