"""Loop 4: networks of any origin, target data, tasks and seeds make transfer rows.

Rows are appended to `rows.jsonl` as they are measured; a killed run skips those that it finds. Many
ranks divide the networks among themselves and keep rows in files of their own, which the first one
joins: nothing that was measured is lost with a rank.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from datastill.artefact import DistilledSet
from datastill.ground.atomic import write_text
from datastill.ground.errors import ConfigError, DataError
from datastill.ground.lookup import public_name
from datastill.ground.loop import Saving, peak_memory_bytes
from datastill.ground.machine import Machine
from datastill.ground.options import non_default, to_json
from datastill.ground.progress import say
from datastill.ground.run_folder import RunFolder, versions
from datastill.ground.world import World
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
ROWS, ROWS_OF_RANK = "rows.jsonl", "rows-of-rank-{}.jsonl"


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

    Rank r of the folder's world makes every network number r, r + size, ... and measures it alone.

    Raises:
        ConfigError: a task cannot judge the networks of an origin.
    """
    for origin, _ in work:
        judges.check_origin(origin)
    world, own = folder.world, replace(folder, world=World())
    pairs = [(origin, seed) for origin, seeds in work for seed in seeds]
    jobs = [
        _Job(origin, seed, machine, own, shared or own, f"{number}/{len(pairs)}", world)
        for number, (origin, seed) in enumerate(pairs, start=1)
    ]
    rows = _joined(folder, jobs)
    _refuse_other_sets(rows, work, folder)
    done = {_key_of(row) for row in rows}
    for job in jobs[world.rank :: world.size]:
        job.measure_all(judges, done)
    return _joined(folder, jobs)


def _refuse_other_sets(
    rows: Sequence[TransferRow], work: Sequence[tuple[Origin, Sequence[int]]], folder: RunFolder
) -> None:
    """Refuse to add rows to those of distilled sets that have since been made again."""
    expected = {(origin.method, origin.artefact) for origin, _ in work}
    for row in rows:
        if (row.method, row.artefact) not in expected:
            raise ConfigError(
                f"{folder.path / ROWS} has rows of another {row.method} set (fingerprint"
                f" {row.artefact[:8]}) than was given; pass the set that they are of, or another"
                " --out"
            )


def _joined(folder: RunFolder, jobs: "Sequence[_Job]") -> list[TransferRow]:
    """All rows, once those that each rank has kept are in one file, in the order of the jobs."""
    file = folder.path / ROWS
    folder.world.wait()
    if folder.writes:
        parts = sorted(folder.path.glob(ROWS_OF_RANK.format("*")))
        there = {_key_of(row) for row in read_rows(file)}
        apart = [row for part in parts for row in read_rows(part) if _key_of(row) not in there]
        number = {job.made: n for n, job in enumerate(jobs)}
        apart.sort(key=lambda row: number.get(_made_of(row), len(jobs)))
        if apart:
            before = file.read_text(encoding="utf-8") if file.exists() else ""
            write_text(file, before + _lines(apart))
        for part in parts:
            part.unlink()
    folder.world.wait()
    return read_rows(file)


def read_rows(file: Path) -> list[TransferRow]:
    """The rows of a file; where a kill cut its last line short, the rows of that task are dropped.

    They are dropped from the file too, so that the task is measured again with all its settings.

    Raises:
        DataError: a line is no row, or was written by a newer version.
    """
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    try:
        rows = [TransferRow(**json.loads(line)) for line in lines if line.endswith("\n")]
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{file} has a line that this version of datastill cannot read ({error}); remove or"
            " repair it, or pass another --out"
        ) from error
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
    world: World  # among whose ranks the jobs are divided
    network: Network | None = None

    def measure_all(self, judges: Judges, done: set[Key]) -> None:
        """Measure and keep what is not yet done."""
        for task in judges.tasks:
            for data in judges.targets:
                saving = self._saving(public_name(task), to_json(task), data.name)
                if self._key(public_name(task), to_json(task), data.name) not in done:
                    self._task(task, data, saving)
                saving.clear()  # its rows are kept, now or before an earlier kill
        held_out = judges.held_out
        if held_out is not None and self.origin.regresses(held_out.target):
            name = held_out.images.name.partition("/")[0]
            if self._key("held-out-r2", None, name) not in done:
                self._held_out(held_out, name)
        self._saving("pre-train", None, "").clear()

    def _task(self, task: AbstractTask, data: TaskData, saving: Saving) -> None:
        network = self._network()
        task.check_network(network, data)
        fingerprint = data.fingerprint  # of the images as they are, without a set's whitening
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
        seconds = time.monotonic() - started
        row = self._row(public_name(task), data.name, fingerprint, seconds)
        row = replace(row, options={**row.options, "task": to_json(task)})
        self._keep(row, found)

    def _held_out(self, held_out: HeldOut, name: str) -> None:
        started = time.monotonic()
        r2 = held_out.r2(self._network(), self.machine)
        seconds = time.monotonic() - started
        row = self._row("held-out-r2", name, held_out.images.fingerprint, seconds)
        self._keep(row, [Measured("", None, r2, 0)])

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

    def _row(self, task: str, data: str, data_fingerprint: str, seconds: float) -> TransferRow:
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
            settings={
                "data": data_fingerprint,
                "precision": self.machine.precision,
                "image_size": self._network().image_size,
                "outputs": self._network().outputs,
                **_settings(distilled),
            },
        )

    def _keep(self, row: TransferRow, found: list[Measured]) -> None:
        file = ROWS if self.world.size == 1 else ROWS_OF_RANK.format(self.world.rank)
        rows = [replace(row, **asdict(measured)) for measured in found]
        self.folder.append_text(file, _lines(rows))  # at once: a kill leaves all or none

    @property
    def made(self) -> Key:
        """What says which network it is that the rows are of."""
        origin, options = self.origin, self.origin.options
        network = architecture_text(origin.architecture)
        words = (origin.artefact, origin.method, network, origin.protocol)
        return *words, _json(options.get("pretraining")), str(self.seed)

    def _key(self, task: str, options: object, data: str) -> Key:
        *made, seed = self.made
        return *made, task, _json(options), data, seed


def _settings(distilled: DistilledSet | None) -> dict[str, Any]:
    """How a distilled set was made, so that a report averages over nothing but seeds."""
    if distilled is None:
        return {}
    provenance = distilled.provenance
    return {
        "method": provenance["method"].get("options", {}),
        "source": provenance["source"].get("fingerprint"),
        "target": (provenance.get("target") or {}).get("fingerprint"),
        "network": provenance.get("network"),
        "distillation_precision": provenance.get("precision"),
        "distillation_seed": provenance.get("seed"),
    }


def _made_of(row: TransferRow) -> Key:
    words = (row.artefact, row.method, row.network, row.protocol)
    return *words, _json(row.options.get("pretraining")), str(row.seed)


def _key_of(row: TransferRow) -> Key:
    *made, seed = _made_of(row)
    return *made, row.task, _json(row.options.get("task")), row.data, seed


def _lines(rows: Sequence[TransferRow]) -> str:
    return "".join(json.dumps(asdict(row)) + "\n" for row in rows)


def _json(options: object) -> str:
    return json.dumps(options, sort_keys=True)
