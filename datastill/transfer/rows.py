"""Rows of transfer: one measured number each, a line of rows.jsonl, and what identifies it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from datastill.core.atomic import write_text
from datastill.core.errors import DataError

Key = tuple[str, ...]


@dataclass(frozen=True)
class TransferRow:
    """One measured number and all settings that are needed to repeat it: a line of rows.jsonl."""

    method: str
    variant: str
    count: int  # M; 0 without a distilled set
    source: str
    data: str
    task: str
    setting: str
    network: str
    seed: int
    accuracy_percent: float | None
    r_squared: float | None
    steps: int
    wall_seconds: float
    peak_memory_bytes: int
    artefact: str  # fingerprint of the distilled set or target model; "" for scratch
    versions: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)  # of task and pre-training
    protocol: str = ""  # such as "mkdt" or "mkdt, 100 epochs"; "" for custom settings
    target_kind: str = ""  # of the distilled set; "" without one
    set_bytes: int = 0  # of the file of the distilled set; 0 without one
    pretrain_steps: int = 0  # updates; 0 without pre-training
    settings: dict[str, Any] = field(default_factory=dict)  # what else decides the number
    pretrain_seconds: float = (
        0.0  # since the last start; 0 where it was done elsewhere or not at all
    )


def read_rows(file: Path) -> list[TransferRow]:
    """Read the rows of a file, and repair one whose last line was cut short by a kill.

    All rows of the task of that line are removed, from the file too, so that the task is measured
    again with all its settings.

    Raises:
        DataError: A line is not a row, or was written by a newer version.
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
        incomplete = key_of(rows[-1]) if rows else None
        while rows and key_of(rows[-1]) == incomplete:
            rows.pop()
        write_text(file, "".join(lines[: len(rows)]))
    return rows


def network_key_of(row: TransferRow) -> Key:
    """Return everything that identifies the evaluated network."""
    names = (row.artefact, row.method, row.network, row.protocol)
    return *names, _json(row.options.get("pretraining")), str(row.seed)


def key_of(row: TransferRow) -> Key:
    *network, seed = network_key_of(row)
    data = row.settings.get("data", row.data)
    return *network, row.task, _json(row.options.get("task")), data, seed


def is_done(row: TransferRow, done: set[Key]) -> bool:
    """Return whether a row was measured; rows of older versions have no fingerprint of the data."""
    return not {key_of(row), key_of(replace(row, settings={}))}.isdisjoint(done)


def lines_of(rows: Sequence[TransferRow]) -> str:
    return "".join(json.dumps(asdict(row)) + "\n" for row in rows)


def _json(options: object) -> str:
    return json.dumps(options, sort_keys=True)
