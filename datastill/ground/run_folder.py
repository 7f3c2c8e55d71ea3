"""A run folder: configuration, environment, metrics and phases of one run, as plain files."""

import dataclasses
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from datastill.ground.atomic import sweep, write_json, write_text
from datastill.ground.checkpoint import differences
from datastill.ground.errors import ConfigError, DataError, ResumeError
from datastill.ground.loop import PhaseCost, Saving
from datastill.ground.progress import say
from datastill.ground.version import package_version
from datastill.ground.world import World

DECIDE_BITS = ("python", "versions", "processor", "threads", "gpu", "ranks")
PACKAGES = ("datastill", "torch", "numpy", "scikit-learn", "pillow", "safetensors")


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """An opened run folder; make one with `RunFolder.open`. Only the first of many ranks writes."""

    path: Path
    checkpoint_seconds: float = 60.0  # between checkpoints
    world: World = World()
    profile: bool = False  # one step of distillation or target training

    @staticmethod
    def check(path: Path | str, config: Mapping[str, Any], *, resume: bool) -> None:
        """Refuse what `open` would refuse, and write nothing: for before the data are read.

        Raises:
            ConfigError: the folder has files in it and `resume` was not asked for.
            ResumeError: the run in the folder has another configuration; names the fields.
            DataError: the folder cannot be made or written.
        """
        folder = RunFolder(Path(path))
        if folder.config_file.exists():
            folder._check_same_run(_plain(config), resume)
        elif folder.path.exists() and (not folder.path.is_dir() or any(folder.path.iterdir())):
            raise ConfigError(f"{path} is not an empty folder; choose another --out")
        place = next(p for p in [folder.path, *folder.path.absolute().parents] if p.exists())
        if not place.is_dir() or not os.access(place, os.W_OK):
            raise DataError(f"{path} cannot be written: {place} is no folder to write to")

    @staticmethod
    def open(
        path: Path | str,
        config: Mapping[str, Any],
        *,
        resume: bool,
        checkpoint_seconds: float = 60.0,
        world: World | None = None,
        profile: bool = False,
    ) -> "RunFolder":
        """Start a run in an empty or new folder, or continue the same run.

        All ranks open it together.

        Raises:
            DatastillError: as `check` says, or the disk is full.
        """
        folder = RunFolder(Path(path), checkpoint_seconds, world or World(), profile)
        if folder.writes:
            RunFolder.check(path, config, resume=resume)
            sweep(folder.path)
            write_text(folder.config_file, yaml.safe_dump(_plain(config), sort_keys=False))
            folder._note_environment()
        folder.world.wait()
        return folder

    @staticmethod
    def of(
        place: "RunFolder | Path | str | None", config: Mapping[str, Any], world: World
    ) -> "RunFolder | None":
        """A run folder as it is; a path is opened, or continued where it has this very run."""
        if place is None or isinstance(place, RunFolder):
            return place
        return RunFolder.open(place, config, resume=True, world=world)

    def _note_environment(self) -> None:
        """Keep that of the first start; a later one that differs is said aloud and kept beside."""
        first = self.path / "environment.json"
        now = {**environment(), "ranks": self.world.size}
        try:
            known: dict[str, Any] = json.loads(first.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            write_json(first, now)
            return
        known = {"ranks": 1, **known}  # runs of one process did not say so
        old, new = ({k: v for k, v in x.items() if k in DECIDE_BITS} for x in (known, now))
        if changed := differences(old, new):
            say(
                f"{self.path} was started in another environment ({'; '.join(changed)}): it goes"
                " on, but not bit for bit"
            )
            self.append("environments.jsonl", now)

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def writes(self) -> bool:
        """Whether this rank writes files here."""
        return self.world.writes

    def saving(self, phase: str, identity: dict[str, Any]) -> Saving:
        """Where the checkpoint of a phase stands."""
        file = self.path / f"checkpoint-{phase}.safetensors"
        return Saving(file, identity, self.checkpoint_seconds, self.world)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line to metrics.jsonl."""
        self.append("metrics.jsonl", {"step": step, **values})

    def rewind(self, step: int) -> None:
        """Drop the lines of metrics.jsonl from `step` on; a half-written last line goes too."""
        file = self.path / "metrics.jsonl"
        if not self.writes or not file.exists():
            return
        kept = []
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] >= step:
                    continue
            except ValueError:
                continue
            kept.append(line + "\n")
        write_text(file, "".join(kept))

    def finish_phase(self, phase: str, cost: PhaseCost) -> None:
        """Append one line to phases.jsonl."""
        self.append("phases.jsonl", {"phase": phase, **dataclasses.asdict(cost)})

    def append(self, name: str, value: Mapping[str, Any]) -> None:
        """Append one JSON line to a file of this folder."""
        self.append_text(name, json.dumps(value) + "\n")

    def append_text(self, name: str, text: str) -> None:
        """Append to a file of this folder in one write."""
        if not self.writes:
            return
        try:
            with (self.path / name).open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise DataError(f"{self.path / name} cannot be written: {error.strerror}") from error

    def _check_same_run(self, config: dict[str, Any], resume: bool) -> None:
        if not resume:
            raise ConfigError(
                f"{self.path} has a run in it; pass --resume to continue it, or another --out"
            )
        try:
            old = dict(yaml.safe_load(self.config_file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
            raise ResumeError(f"{self.config_file} is damaged; choose another --out") from error
        if differing := differences(old, config):
            raise ResumeError(
                f"{self.path} has another run in it; it differs in {'; '.join(differing)}."
                " Give the same options, or another --out"
            )


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Tuples and paths as a file would give them back."""
    plain: dict[str, Any] = json.loads(json.dumps(config, default=str))
    return plain


def environment() -> dict[str, Any]:
    """What a reader needs to judge and repeat a run: versions, machine, threads, command."""
    return {
        "command": shlex.join(["datastill", *sys.argv[1:]]),
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": versions(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def versions() -> dict[str, str]:
    """Versions of the packages that decide the numbers."""
    return {name: package_version(name) for name in PACKAGES}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(x.partition(":")[2].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Of this code, where it runs from its repository; an installed copy has a version only."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
