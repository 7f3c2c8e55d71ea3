"""Run folders: find them, and read their files without stopping at damaged files.

Functions append to `problems` a sentence about each file or folder that they leave out.
"""

import json
import math
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from datastill.core.errors import DataError, DatastillError
from datastill.core.options import Json
from datastill.distilled_set import DistilledSet

FILES = {
    *("config.yaml", "environment.json", "metrics.jsonl", "phases.jsonl"),
    *("initial.safetensors", "distilled.safetensors", "rows.jsonl", "failed.json"),
}


@dataclass(frozen=True)
class RunLocation:
    """A folder with files of a run."""

    path: Path
    name: str  # relative to the searched folder, such as quick/target


@dataclass(frozen=True)
class Run:
    """The files of one run folder; every part may be missing."""

    name: str
    config: str  # YAML text
    environment: Json
    metrics: pd.DataFrame  # indexed by step
    phases: list[Json]
    before: DistilledSet | None
    after: DistilledSet | None

    @property
    def command(self) -> str:
        """The recorded command line, or ""."""
        command = self.environment.get("command") or ""
        return shlex.join(map(str, command)) if isinstance(command, list) else str(command)

    @property
    def seconds(self) -> float:
        """What all phases took; NaN where none was recorded."""
        seconds = [number(phase.get("wall_seconds")) for phase in self.phases]
        return math.fsum(seconds) if seconds else math.nan

    @property
    def is_smoke(self) -> bool:
        """Whether the configuration names the scale smoke."""
        return re.search(r"^scale: *smoke *$", self.config, re.MULTILINE) is not None


def find_runs(folders: Sequence[Path], problems: list[str]) -> list[RunLocation]:
    """Find every folder with files of a run in and below `folders`, once each, sorted by name.

    Hidden folders are skipped. Links to folders are not followed; one that leads elsewhere is a
    problem.

    Raises:
        DataError: One of `folders` does not exist or cannot be read.
    """
    locations: dict[Path, RunLocation] = {}
    links = list[Path]()
    visited = set[Path]()

    def leave_out(error: OSError) -> None:
        problems.append(f"{error.filename} cannot be read ({error.strerror})")

    for root in folders:
        if not os.access(root, os.R_OK | os.X_OK):
            raise DataError(f"there is no folder {root} that can be read; pass run folders")
        for parent, subfolders, files in os.walk(root, onerror=leave_out):
            path, resolved = Path(parent), Path(parent).resolve()
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            links += [path / name for name in subfolders if (path / name).is_symlink()]
            if resolved not in visited and not FILES.isdisjoint(files):
                name = (Path(root.resolve().name) / path.relative_to(root)).as_posix()
                locations[resolved] = RunLocation(path, name)
            visited.add(resolved)
    problems += [
        f"{link} is a link that was not followed; pass {link.resolve()} too"
        for link in dict.fromkeys(links)
        if link.resolve() not in visited
    ]
    return sorted(locations.values(), key=lambda location: (location.name, str(location.path)))


def read_runs(locations: Sequence[RunLocation], problems: list[str]) -> list[Run]:
    """Read all run folders; missing and damaged files leave their part empty."""
    return [_run(location.name, location.path, problems) for location in locations]


def read_failures(locations: Sequence[RunLocation], problems: list[str]) -> list[str]:
    """Read every `failed.json` as sentences of part, run and error message."""
    failures = []
    for location in locations:
        path = location.path / "failed.json"
        try:
            failures += [
                f"{entry['part']} in {location.name}: {entry['error']}"
                for entry in _json(_read(path, problems) or b"[]")
            ]
        except (KeyError, TypeError):
            problems.append(f"{path} is no list of failed parts")
    return failures


def read_json_lines(path: Path, problems: list[str]) -> Iterator[tuple[int, Json]]:
    """Yield (line number, object) of a JSON Lines file."""
    broken = []
    lines = _read(path, problems).split(b"\n")  # not splitlines: a text may hold U+2028
    for line_number, line in enumerate(lines, start=1):
        value = _json(line)
        if isinstance(value, dict):
            yield line_number, value
        elif line.strip():
            broken.append(line_number)
    if broken:
        problems.append(f"{path} has {len(broken):,} broken line(s), the first is line {broken[0]}")


def number(value: object) -> float:
    """Return a finite number as it is and anything else as NaN."""
    try:
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan
    except OverflowError:
        return math.nan


def _run(name: str, path: Path, problems: list[str]) -> Run:
    environment = _json(_read(path / "environment.json", problems) or b"{}")
    if not isinstance(environment, dict):
        problems.append(f"{path / 'environment.json'} is no JSON object")
        environment = {}
    return Run(
        name,
        _read(path / "config.yaml", problems).decode("utf-8", "replace"),
        environment,
        _metrics([line for _, line in read_json_lines(path / "metrics.jsonl", problems)]),
        [line for _, line in read_json_lines(path / "phases.jsonl", problems)],
        before=_distilled_set(path / "initial.safetensors", problems),
        after=_distilled_set(path / "distilled.safetensors", problems),
    )


def _metrics(lines: Sequence[Json]) -> pd.DataFrame:
    """Metrics by step. A resumed run repeats steps since its checkpoint; the last line counts."""
    frame = pd.DataFrame([{name: number(value) for name, value in x.items()} for x in lines])
    if "step" not in frame:
        return pd.DataFrame()
    return frame.dropna(subset="step").groupby("step").last()


def _distilled_set(path: Path, problems: list[str]) -> DistilledSet | None:
    try:
        return DistilledSet.load(path) if path.is_file() else None
    except (DatastillError, OSError) as error:
        problems.append(f"{path} cannot be read: {error}")
        return None


def _read(path: Path, problems: list[str]) -> bytes:
    """Return the bytes of a file; none where there is no file, or a pipe."""
    try:
        return path.read_bytes() if path.is_file() else b""
    except OSError as error:
        problems.append(f"{path} cannot be read ({error.strerror})")
        return b""


def _json(text: bytes) -> Any:
    """Return the value of a JSON text, None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
