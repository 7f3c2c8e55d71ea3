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

RUN_FILES = {
    *("config.yaml", "environment.json", "metrics.jsonl", "phases.jsonl"),
    *("initial.safetensors", "distilled.safetensors"),
}
FILES = RUN_FILES | {"rows.jsonl", "failed.json"}


@dataclass(frozen=True)
class RunLocation:
    """A folder with files of a run."""

    path: Path
    name: str  # relative to the searched folder, such as quick/target
    files: frozenset[str]


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
    def is_smoke(self) -> bool:
        """Whether the configuration names the scale smoke."""
        return re.search(r"^scale: *smoke *$", self.config, re.MULTILINE) is not None


def find_runs(folders: Sequence[Path], problems: list[str]) -> list[RunLocation]:
    """Find every folder with files of a run in and below `folders`, once each, sorted by name.

    Hidden folders are skipped. Links are not followed; one that leads elsewhere is a problem.

    Raises:
        DataError: One of `folders` does not exist or cannot be read.
    """
    locations: dict[Path, RunLocation] = {}
    links: dict[Path, Path] = {}
    visited = set[Path]()

    def leave_out(error: OSError) -> None:
        problems.append(f"{error.filename} cannot be read ({error.strerror})")

    for root in folders:
        if not os.access(root, os.R_OK | os.X_OK):
            raise DataError(f"there is no folder {root} that can be read; pass run folders")
        for parent, subfolders, files in os.walk(root, onerror=leave_out):
            path, resolved = Path(parent), Path(parent).resolve()
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            links |= {path / f: (path / f).resolve() for f in subfolders if (path / f).is_symlink()}
            names = [name for name in sorted(FILES & set(files)) if resolved not in visited]
            visited.add(resolved)
            regular = {f for f in names if (path / f).is_file() and not (path / f).is_symlink()}
            problems += [f"{path / f} is no regular file" for f in names if f not in regular]
            if regular:
                name = (Path(root.resolve().name) / path.relative_to(root)).as_posix()
                locations[resolved] = RunLocation(path, name, frozenset(regular))
    for link, target in links.items():
        if target not in visited:
            problems.append(f"{link} is a link that was not followed; pass {target} too")
    return sorted(locations.values(), key=lambda location: (location.name, str(location.path)))


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


def read_runs(locations: Sequence[RunLocation], problems: list[str]) -> list[Run]:
    """Read all run folders; damaged files count as missing."""
    return [_run(location, problems) for location in locations if location.files & RUN_FILES]


def read_failures(locations: Sequence[RunLocation], problems: list[str]) -> list[str]:
    """Read every `failed.json` as sentences of part, run and error message."""
    failures = []
    for location in locations:
        if "failed.json" in location.files:
            path = location.path / "failed.json"
            try:
                failures += [
                    f"{entry['part']} in {location.name}: {entry['error']}"
                    for entry in _json(_read(path, problems))
                ]
            except (KeyError, TypeError):
                problems.append(f"{path} is no list of failed parts")
    return failures


def number(value: object) -> float:
    """Return a finite number as it is and anything else as NaN."""
    try:
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan
    except OverflowError:
        return math.nan


def _run(location: RunLocation, problems: list[str]) -> Run:
    config, environment = "", dict[str, Any]()
    lines, sets = dict[str, list[Json]](), dict[str, DistilledSet]()
    for name in sorted(location.files & RUN_FILES):
        path = location.path / name
        if name == "config.yaml":
            config = _read(path, problems).decode("utf-8", "replace")
        elif name == "environment.json":
            environment = _json(_read(path, problems))
            if not isinstance(environment, dict):
                problems.append(f"{path} is no JSON object")
                environment = {}
        elif name.endswith(".jsonl"):
            lines[name] = [line for _, line in read_json_lines(path, problems)]
        else:
            try:
                sets[name] = DistilledSet.load(path)
            except (DatastillError, OSError) as error:
                problems.append(f"{path} cannot be read: {error}")
    return Run(
        location.name,
        config,
        environment,
        _metrics(lines.get("metrics.jsonl", [])),
        lines.get("phases.jsonl", []),
        before=sets.get("initial.safetensors"),
        after=sets.get("distilled.safetensors"),
    )


def _metrics(lines: Sequence[Json]) -> pd.DataFrame:
    """Metrics by step. A resumed run repeats steps since its checkpoint; the last line counts."""
    frame = pd.DataFrame([{name: number(value) for name, value in x.items()} for x in lines])
    if "step" not in frame:
        return pd.DataFrame()
    return frame.dropna(subset="step").groupby("step").last()


def _read(path: Path, problems: list[str]) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        problems.append(f"{path} cannot be read ({error.strerror})")
        return b""


def _json(text: bytes) -> Any:
    """Return the value of a JSON text, None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
