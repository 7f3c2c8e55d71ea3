"""Locks: one process at a time; a dead process holds none."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from toys import always_saving

from datastill.ground.alone import undisturbed
from datastill.ground.errors import ConfigError
from datastill.ground.loop import run_steps

HOLDER = """
import sys, pathlib
from datastill.ground.alone import undisturbed
with undisturbed(pathlib.Path(sys.argv[1]), "walk"):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(lock: Path) -> subprocess.Popen[str]:
    """A process that holds the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


@dataclass
class Nothing:
    value: torch.Tensor


def one_step(folder: Path) -> None:
    def step(number: int) -> Mapping[str, float]:
        return {"number": float(number)}

    run_steps("walk", Nothing(torch.zeros(1)), step, length=1, saving=always_saving(folder))


def test_undisturbed__leaves_nothing(tmp_path: Path) -> None:
    lock = tmp_path / ".walk.lock"
    with undisturbed(lock, "walk"):
        assert lock.exists()
    assert not lock.exists()
    with pytest.raises(KeyError), undisturbed(lock, "walk"):
        raise KeyError
    assert not lock.exists()


def test_run_steps__second_process_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    process = holder(tmp_path / ".checkpoint.lock")
    with pytest.raises(ConfigError, match=r"another process is working on walk in .* --out"):
        one_step(tmp_path)
    process.kill()
    process.communicate()
    assert (tmp_path / ".checkpoint.lock").exists()  # nobody holds what the dead one left
    one_step(tmp_path)
    assert not (tmp_path / ".checkpoint.lock").exists()


def test_undisturbed__lock_that_was_removed_meanwhile_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last holder removes the file after we opened it and before we lock it."""
    lock, real = tmp_path / ".walk.lock", Path.open

    def opened_too_early(self: Path, *args: str) -> object:
        monkeypatch.setattr(Path, "open", real)
        file = real(self, *args)
        self.unlink()
        return file

    monkeypatch.setattr(Path, "open", opened_too_early)
    with undisturbed(lock, "walk"):
        with pytest.raises(ConfigError, match="another process"), undisturbed(lock, "walk"):
            pass
        assert lock.exists()
