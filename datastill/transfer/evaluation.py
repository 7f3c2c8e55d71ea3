"""Evaluate networks of any origin on target data, by tasks and seeds, into transfer rows.

Rows are appended to `rows.jsonl` as they are measured; a continued run skips those that are there.
With several ranks each evaluates its share of the networks and appends to a file of its own, which
rank 0 merges at the end, so that no measured row is lost when a rank fails.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from datastill.core.atomic import write_text
from datastill.core.errors import ConfigError
from datastill.core.lookup import public_name
from datastill.core.loop import CheckpointConfig, peak_memory_bytes
from datastill.core.machine import Machine
from datastill.core.options import non_default, to_json
from datastill.core.progress import logger
from datastill.core.ranks import Ranks
from datastill.core.run_folder import RunFolder, versions
from datastill.distilled_set import DistilledSet, SetSummary
from datastill.networks.architecture import Architecture, Network
from datastill.pretrain import with_provenance
from datastill.pretrained_network import FILE_NAME
from datastill.stored_form.stored import settings_text
from datastill.transfer.held_out import HeldOut
from datastill.transfer.origins import Origin
from datastill.transfer.rows import (
    Key,
    TransferRow,
    is_done,
    key_of,
    lines_of,
    network_key_of,
    read_rows,
)
from datastill.transfer.task import (
    Task,
    TaskContext,
    TaskData,
    TaskResult,
    check_same_classes,
)

HELD_OUT = "held-out-r2"  # the task of rows that have a held-out R²
NETWORKS = "networks"  # folder of those that are kept
ROWS, ROWS_OF_RANK = "rows.jsonl", "rows-of-rank-{}.jsonl"


@dataclass(frozen=True, eq=False)
class EvaluationSuite:
    """The tasks and the data on which every network is evaluated.

    Args:
        tasks: Such as fine-tuning and a linear probe.
        targets: Labelled data; each task is run on each of them.
        held_out: For the held-out R² of networks whose outputs are target representations.
    """

    tasks: Sequence[Task] = ()
    targets: Sequence[TaskData] = ()
    held_out: HeldOut | None = None

    def check(self) -> None:
        """Check that every task can use all data, before any work."""
        for task in self.tasks:
            for data in self.targets:
                task.check(data)

    def check_origin(self, origin: Origin) -> None:
        """Check that every task can evaluate the networks of an origin, before any work.

        Raises:
            ConfigError: A task needs distilled images and the origin has none, or it needs one
                output per class and the networks have other outputs.
        """
        for task in self.tasks:
            if task.evaluates_outputs and origin.summary is not None:
                for data in self.targets:
                    check_same_classes(origin.summary, data)
            elif task.evaluates_outputs and origin.artefact:
                raise ConfigError(
                    f"{public_name(task)} needs one output per class, and {origin.title} gives"
                    " representations; give distilled sets with class labels, or scratch"
                )
            elif task.trains_on_distilled and origin.artefact and origin.distilled is None:
                raise ConfigError(
                    f"{public_name(task)} trains on distilled images, and {origin.title} has none;"
                    " give distilled sets, or scratch for Gaussian noise"
                )


def evaluate_networks(
    work: Sequence[tuple[Origin, Sequence[int]]],
    suite: EvaluationSuite,
    *,
    machine: Machine,
    folder: RunFolder,
    shared: RunFolder | None = None,
    keep_networks: bool = False,
) -> list[TransferRow]:
    """Measure the rows that `folder` does not have yet, and return all its rows.

    A network is made once per origin and seed, and only if one of its rows is missing. Of R ranks,
    rank r evaluates the networks r, r + R, r + 2R, ...

    Args:
        work: Origins, each with its seeds.
        suite: Tasks and data.
        machine: Device and precision.
        folder: Keeps the rows and checkpoints.
        shared: Keeps what several folders share, such as a teacher. Default: `folder`.
        keep_networks: Whether `folder` keeps the networks that are pre-trained on sets, too.

    Raises:
        ConfigError: A task cannot evaluate the networks of an origin.
    """
    for origin, _ in work:
        suite.check_origin(origin)
        if suite.held_out is not None and origin.lacks_basis:
            logger.warning(
                f"{origin.title} has no held-out R²: its outputs are coordinates in a basis that is"
                " not there; give the set, with its .basis.safetensors beside it"
            )
    ranks, folder_of_rank = folder.ranks, replace(folder, ranks=Ranks())
    pairs = [(origin, seed) for origin, seeds in work for seed in seeds]
    jobs = [
        _Job(
            origin,
            seed,
            machine,
            folder_of_rank,
            shared or folder_of_rank,
            ranks,
            number,
            keep_networks,
        )
        for number, (origin, seed) in enumerate(pairs, start=1)
    ]
    rows = _joined(folder, jobs)
    # Data may have moved: random streams and the report go by the name that the rows have.
    names = {row.settings["data"]: row.data for row in rows if "data" in row.settings}
    targets = [replace(x, name=names.get(x.fingerprint, x.name)) for x in suite.targets]
    suite = replace(suite, targets=targets)
    _refuse_other_rows(rows, work, suite, folder)
    done = {key_of(row) for row in rows}
    for job in jobs[ranks.rank :: ranks.size]:
        job.measure_all(suite, done, of=len(jobs))
    return _joined(folder, jobs)


def _refuse_other_rows(
    rows: Sequence[TransferRow],
    work: Sequence[tuple[Origin, Sequence[int]]],
    suite: EvaluationSuite,
    folder: RunFolder,
) -> None:
    """Refuse to add rows to those of other distilled sets or other target data."""
    expected = {(origin.method, origin.artefact) for origin, _ in work}
    fingerprints = {None, *(data.fingerprint for data in suite.targets)}  # None: older versions
    if suite.held_out is not None:
        fingerprints.add(suite.held_out.images.fingerprint)
    for row in rows:
        is_compared = suite.held_out is not None or row.task != HELD_OUT
        if is_compared and row.settings.get("data") not in fingerprints:
            raise ConfigError(
                f"{folder.path / ROWS} has rows of other images of {row.data} than were given;"
                " pass the images that they are of, or another --out"
            )
        if (row.method, row.artefact) not in expected:
            raise ConfigError(
                f"{folder.path / ROWS} has rows of another {row.method} set (fingerprint"
                f" {row.artefact[:8]}); pass that set, or another --out"
            )


def _joined(folder: RunFolder, jobs: "Sequence[_Job]") -> list[TransferRow]:
    """Merge the rows of all ranks into one file, in the order of the jobs, and return them."""
    file = folder.path / ROWS
    folder.ranks.barrier()
    if folder.writes:
        parts = sorted(folder.path.glob(ROWS_OF_RANK.format("*")))
        merged = {key_of(row) for row in read_rows(file)}
        new = [row for part in parts for row in read_rows(part) if key_of(row) not in merged]
        order = {network_key_of(job.row): job.number for job in jobs}
        new.sort(key=lambda row: order.get(network_key_of(row), len(jobs) + 1))
        if new:
            before = file.read_text(encoding="utf-8") if file.exists() else ""
            write_text(file, before + lines_of(new))
        for part in parts:
            part.unlink()
    folder.ranks.barrier()
    return read_rows(file)


def architecture_text(architecture: Architecture) -> str:
    """Return name and non-default options, such as `convnet(widths=[32, 64, 128])`."""
    changed = ", ".join(f"{k}={v}" for k, v in non_default(architecture).items())
    return public_name(architecture) + (f"({changed})" if changed else "")


@dataclass
class _Job:
    """The rows of one origin and one seed; the network is made when it is first needed."""

    origin: Origin
    seed: int
    machine: Machine
    folder: RunFolder
    shared: RunFolder
    ranks: Ranks  # the ranks among which jobs are divided
    number: int  # from 1
    keeps_network: bool = False
    network: Network | None = None
    pretrain_seconds: float = 0.0

    def __post_init__(self) -> None:
        origin, summary = self.origin, self.origin.summary
        self.row = TransferRow(  # all that is known before anything is measured
            method=origin.method,
            variant=origin.variant,
            count=origin.count,
            source=origin.source,
            data="",
            task="",
            setting="",
            network=architecture_text(origin.architecture),
            seed=self.seed,
            accuracy_percent=None,
            r_squared=None,
            steps=0,
            wall_seconds=0.0,
            peak_memory_bytes=0,
            artefact=origin.artefact,
            options=origin.options,
            protocol=origin.protocol,
            target_kind="" if summary is None else summary.target_kind,
            set_bytes=0 if summary is None else summary.bytes,
            pretrain_steps=origin.pretrain_steps,
        )

    def measure_all(self, suite: EvaluationSuite, done: set[Key], *, of: int) -> None:
        """Measure and store the rows that are not in `done`; `of` is the number of all jobs."""
        progress = f"transfer {self.number}/{of}: {self.origin.title}, seed {self.seed}"
        for task in suite.tasks:
            options = {**self.origin.options, "task": to_json(task)}
            for data in suite.targets:
                row = self._row(public_name(task), data.name, data.fingerprint, options)
                saving = self._saving(row)
                if not is_done(row, done):
                    network = self._network(progress)
                    self._measure(row, task, data, network, saving)
                saving.clear()  # its rows are stored, now or by the killed run
        held_out = suite.held_out
        if held_out is not None and self.origin.regresses(held_out.target):
            images = held_out.images
            row = self._row(HELD_OUT, images.name.partition("/")[0], images.fingerprint)
            if not is_done(row, done):
                network, start_time = self._network(progress), time.monotonic()
                r2 = held_out.r2(network, self.machine, basis=self.origin.basis)
                results = [TaskResult("", None, r2, 0)]
                self._append(row, results, network, start_time)
        self._saving(replace(self.row, task="pre-train")).clear()

    def _row(
        self, task: str, data: str, fingerprint: str, options: dict[str, Any] | None = None
    ) -> TransferRow:
        options, settings = options or self.row.options, {"data": fingerprint}
        return replace(self.row, task=task, data=data, options=options, settings=settings)

    def _measure(
        self,
        row: TransferRow,
        task: Task,
        data: TaskData,
        network: Network,
        saving: CheckpointConfig,
    ) -> None:
        task.check_network(network, data)
        data, start_time = data.whitened_by(self.origin.normalizer), time.monotonic()
        start = TaskContext(
            network,
            self.origin.architecture,
            self.seed,
            self.machine,
            saving,
            self.origin.distilled,
            self.shared,
        )
        self._append(row, task.measure(start, data), network, start_time)

    def _network(self, progress: str) -> Network:
        if self.network is None:
            logger.info(progress)
            saving = self._saving(replace(self.row, task="pre-train"))
            start_time = time.monotonic()
            self.network = self.origin.make(self.seed, saving)
            if self.origin.distilled is not None:
                self.pretrain_seconds = round(time.monotonic() - start_time, 3)
                if self.keeps_network:
                    self._keep(self.network, self.origin.distilled)
        return self.network

    def _keep(self, network: Network, distilled: DistilledSet) -> None:
        """Write the network below `networks/`, in a folder for its set, architecture and steps."""
        *key, _ = network_key_of(self.row)
        digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:8]
        folder = self.folder.path / NETWORKS / f"{self.origin.method}-{len(distilled)}-{digest}"
        folder.mkdir(parents=True, exist_ok=True)
        pretrained = with_provenance(
            network,
            distilled,
            self.origin.options["pretraining"],
            steps=self.origin.pretrain_steps,
            seed=self.seed,
            precision=self.machine.precision,
        )
        pretrained.save(folder / FILE_NAME.format(self.seed))

    def _saving(self, row: TransferRow) -> CheckpointConfig:
        """Return the checkpoint of the work for a row; each has its own file."""
        key = key_of(row)
        if row.settings:  # of a task: the name of the data decides which images it draws
            key = (*key, row.data)
        digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]
        return self.folder.saving(f"{row.task}-{digest}", {"origin": key})

    def _append(
        self,
        row: TransferRow,
        results: Sequence[TaskResult],
        network: Network,
        start_time: float,
    ) -> None:
        settings = {
            **row.settings,
            "precision": self.machine.precision,
            "image_size": network.image_size,
            "outputs": network.outputs,
            **_settings(self.origin.summary),
        }
        row = replace(
            row,
            wall_seconds=round(time.monotonic() - start_time, 3),
            peak_memory_bytes=peak_memory_bytes(),
            versions=versions(),
            settings=settings,
            pretrain_seconds=self.pretrain_seconds,
        )
        file = ROWS if self.ranks.size == 1 else ROWS_OF_RANK.format(self.ranks.rank)
        rows = [replace(row, **asdict(result)) for result in results]
        self.folder.append_text(file, lines_of(rows))  # in one write: a kill leaves all or none


def _settings(summary: SetSummary | None) -> dict[str, Any]:
    """Return how a distilled set was made, so that a report averages over nothing but seeds."""
    if summary is None:
        return {}
    provenance = summary.provenance
    stored = provenance.get("stored")
    return {
        **({} if stored is None else {"stored": settings_text(stored)}),
        # of sets that were coded while they were made, or made from another one
        **({"compression": provenance["compression"]} if "compression" in provenance else {}),
        **({"start": provenance["start"]["method"]} if "start" in provenance else {}),
        "method": provenance["method"].get("options", {}),
        "source": provenance["source"].get("fingerprint"),
        "target": (provenance.get("target") or {}).get("fingerprint"),
        "network": provenance.get("network"),
        "distillation_precision": provenance.get("precision"),
        "distillation_seed": provenance.get("seed"),
    }
