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

from datastill.core.atomic import remove_stale_tempfiles, write_json, write_text
from datastill.core.checkpoint import differences
from datastill.core.errors import ConfigError, DataError, ResumeError
from datastill.core.locks import exclusive_lock
from datastill.core.loop import CheckpointConfig, PhaseCost
from datastill.core.options import plain
from datastill.core.progress import logger
from datastill.core.ranks import Ranks
from datastill.core.version import package_version

REPRODUCIBILITY_KEYS = ("python", "versions", "processor", "threads", "gpu", "ranks")
LOCATIONS = (
    "data_root",
    "target",
    "weights",
    "start_set",
    "origins",
    "set",
    "reuse",
    "out",
)  # paths
FOLDER = "folder:"  # the name of a data set that is a folder is this and its path
PACKAGES = ("datastill", "torch", "numpy", "scikit-learn", "pillow", "safetensors")


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """An opened run folder; make one with `RunFolder.open`. Only the main process writes.

    Args:
        path: The folder.
        checkpoint_seconds: Seconds between checkpoints.
        ranks: The ranks that share the run.
        profile: Whether one step of distillation or target training is profiled.
    """

    path: Path
    checkpoint_seconds: float = 60.0
    ranks: Ranks = Ranks()
    profile: bool = False

    @staticmethod
    def check(path: Path | str, config: Mapping[str, Any], *, resume: bool) -> None:
        """Refuse what `open` would refuse, without writing anything; call it before data are read.

        Where data, target model and other files are is not compared: `open` compares what they are.

        Raises:
            ConfigError: The folder has other files in it, or a run, and `resume` is False.
            ResumeError: The run in the folder has another configuration; names the fields.
            DataError: The folder cannot be made or written.
        """
        folder = RunFolder(Path(path))
        if folder.config_file.exists():
            folder._check_same_run(plain(config), resume)
        elif folder.path.exists() and (not folder.path.is_dir() or folder._has_foreign_files()):
            raise ConfigError(f"{path} is not an empty folder; choose another --out")
        nearest = next(p for p in [folder.path, *folder.path.absolute().parents] if p.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK):
            raise DataError(f"{path} cannot be written: {nearest} is no folder to write to")

    @staticmethod
    def open(
        path: Path | str,
        config: Mapping[str, Any],
        *,
        resume: bool,
        data: Mapping[str, str] | None = None,
        checkpoint_seconds: float = 60.0,
        ranks: Ranks | None = None,
        profile: bool = False,
    ) -> "RunFolder":
        """Start a run in an empty or new folder, or continue the same run; all ranks together.

        Args:
            path: The folder.
            config: All settings of the run, as JSON values.
            resume: Whether to continue where the folder has this run in it.
            data: Fingerprints of the images and models that the run reads, by what they are, such
                as "source images". Default: they are not compared.
            checkpoint_seconds: Seconds between checkpoints.
            ranks: The ranks that share the run. Default: this process alone.
            profile: Whether to profile one step.

        Raises:
            ConfigError: As `check`, or another process opens the folder at this moment.
            ResumeError: As `check`, or the run in the folder has other data.
            DataError: As `check`, or the disk is full.
        """
        folder = RunFolder(Path(path), checkpoint_seconds, ranks or Ranks(), profile)
        if folder.writes:
            RunFolder.check(path, config, resume=resume)
            with exclusive_lock(folder.path / ".config.lock", "a run"):
                RunFolder.check(path, config, resume=resume)  # it may be there since just now
                folder._check_same_data(data or {})
                if folder.config_file.exists() and (
                    moved := differences(folder._read(folder.config_file), plain(config))
                ):
                    logger.info(f"{path} is continued with other paths: {'; '.join(moved)}")
                remove_stale_tempfiles(folder.path)
                write_text(folder.config_file, yaml.safe_dump(plain(config), sort_keys=False))
                if data and not folder.data_file.exists():
                    write_json(folder.data_file, dict(data))
                folder._record_environment()
        folder.ranks.barrier()
        return folder

    @staticmethod
    def open_or_resume(
        folder: "RunFolder | Path | str | None", config: Mapping[str, Any], ranks: Ranks
    ) -> "RunFolder | None":
        """Return a run folder as it is; open a path, or continue where it has this very run."""
        if folder is None or isinstance(folder, RunFolder):
            return folder
        return RunFolder.open(folder, config, resume=True, ranks=ranks)

    def _record_environment(self) -> None:
        """Write the environment of the first start; report and append a later one that differs."""
        first = self.path / "environment.json"
        now = {**environment(), "ranks": self.ranks.size}
        try:
            # older runs of one process lack the number of ranks
            before: dict[str, Any] = {"ranks": 1, **json.loads(first.read_text(encoding="utf-8"))}
        except (OSError, TypeError, ValueError):  # missing, no JSON, or no JSON object
            write_json(first, now)
            return
        old, new = (
            {k: v for k, v in x.items() if k in REPRODUCIBILITY_KEYS} for x in (before, now)
        )
        if changes := differences(old, new):
            logger.info(
                f"{self.path} was started in another environment ({'; '.join(changes)}): it goes"
                " on, but not bit for bit"
            )
            self.append("environments.jsonl", now)

    def _has_foreign_files(self) -> bool:
        """Return whether there is more than a run leaves that was killed while it started."""
        names = (path.name for path in self.path.iterdir())
        return any(not (n.startswith(".") and n.endswith((".part", ".lock"))) for n in names)

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def data_file(self) -> Path:
        return self.path / "data.json"

    @property
    def writes(self) -> bool:
        """Whether this rank writes files here."""
        return self.ranks.is_main

    def saving(self, phase: str, identity: dict[str, Any]) -> CheckpointConfig:
        """Return where and how often a phase saves its checkpoint."""
        file = self.path / f"checkpoint-{phase}.safetensors"
        return CheckpointConfig(file, identity, self.checkpoint_seconds, self.ranks)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line to metrics.jsonl."""
        self.append("metrics.jsonl", {"step": step, **values})

    def rewind(self, step: int) -> None:
        """Remove the lines of metrics.jsonl from `step` on, and a half-written last line."""
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
        """Append to a file of this folder in one write; a link to another file is refused."""
        if not self.writes:
            return
        try:
            with open(self.path / name, "a", encoding="utf-8", opener=_open_no_link) as file:
                file.write(text)
        except OSError as error:
            raise DataError(f"{self.path / name} cannot be written: {error.strerror}") from error

    def _check_same_run(self, config: dict[str, Any], resume: bool) -> None:
        if not resume:
            raise ConfigError(
                f"{self.path} has a run in it; pass --resume to continue it, or another --out"
            )
        old = _without_locations(self._read(self.config_file))
        if changes := differences(old, _without_locations(config)):
            raise ResumeError(
                f"{self.path} has another run in it; it differs in {'; '.join(changes)}."
                " Give the same options, or another --out"
            )

    def data(self) -> dict[str, str]:
        """Read the fingerprints of the data of the run; none where an older version started it.

        Raises:
            ResumeError: The file is damaged.
        """
        return self._read(self.data_file) if self.data_file.exists() else {}

    def _read(self, file: Path) -> dict[str, Any]:
        try:
            return dict(yaml.safe_load(file.read_text(encoding="utf-8")))  # JSON is YAML, too
        except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
            raise ResumeError(f"{file} is damaged; choose another --out") from error

    def _check_same_data(self, data: Mapping[str, str]) -> None:
        old = self.data()
        changed = [name for name in sorted({*old, *data}) if old.get(name) != data.get(name)]
        if old and data and changed:
            raise ResumeError(
                f"{self.path} has a run in it whose {' and '.join(changed)} had other contents;"
                " restore them, or choose another --out"
            )


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _without_locations(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings without paths: fingerprints compare what the files contain."""

    def without_path(value: Any) -> Any:
        if isinstance(value, list):
            return [without_path(item) for item in value]
        return FOLDER if isinstance(value, str) and value.startswith(FOLDER) else value

    return {
        key: without_path(value)
        for key, value in config.items()
        if key not in LOCATIONS or isinstance(value, dict)
    }


def environment() -> dict[str, Any]:
    """Describe where a run computes: command, versions, machine and threads."""
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
    """Return the versions of the packages on which results depend."""
    return {name: package_version(name) for name in PACKAGES}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(x.partition(":")[2].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Return the commit of this code in its repository; None for an installed copy."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "--no-optional-locks", "-C", str(root), "describe"]  # writes no index
    command += ["--always", "--exclude=*", "--abbrev=12", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
