"""Locks: one process at a time; a dead process holds none."""

import errno
import fcntl
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from factories import always_saving

from datastill.core.errors import ConfigError, DataError
from datastill.core.locks import exclusive_lock, file_lock
from datastill.core.loop import run_steps

Lock = Callable[[Path, str], AbstractContextManager[None]]
HOLDER = """
import sys, pathlib
from datastill.core.locks import exclusive_lock
with exclusive_lock(pathlib.Path(sys.argv[1]), "walk"):
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


def one_step(folder: Path) -> None:
    saving = always_saving(folder)
    run_steps("walk", torch.zeros(1), lambda step: {"step": step}, length=1, saving=saving)


def test_run_steps__second_process_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    process = holder(tmp_path / ".checkpoint.lock")
    with pytest.raises(ConfigError, match=r"another process is working on walk in .* --out"):
        one_step(tmp_path)
    process.kill()
    process.communicate()
    one_step(tmp_path)  # the system has freed the lock of the dead process


def test_exclusive_lock__leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), exclusive_lock(tmp_path / ".walk.lock", "walk"):
        raise KeyError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("lock", [file_lock, exclusive_lock])
def test_locks__link_in_place_of_the_lock_file_is_refused(lock: Lock, tmp_path: Path) -> None:
    victim = tmp_path / "thesis.tex"
    victim.write_text("my words")
    (tmp_path / ".walk.lock").symlink_to(victim)
    with pytest.raises(DataError, match=r"\.walk\.lock cannot be locked"):
        lock(tmp_path / ".walk.lock", "walk").__enter__()
    assert victim.read_text() == "my words"


@pytest.mark.parametrize("lock", [file_lock, exclusive_lock])
def test_locks__file_system_without_locks_is_told_and_work_goes_on(
    lock: Lock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with lock(tmp_path / ".walk.lock", "walk"):
        pass
    assert "file system without locks (No locks available)" in capsys.readouterr().err


def test_file_lock__waits_for_the_other_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = holder(tmp_path / ".walk.lock")
    timer = threading.Timer(0.3, process.kill)
    timer.start()
    with file_lock(tmp_path / ".walk.lock", "walk"):
        assert process.wait() != 0
    process.communicate()
    assert "walk: another process is making it; waiting" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["fcntl", "resource"])
def test_program__lists_methods_on_a_system_without(module: str) -> None:
    code = f"import sys; sys.modules['{module}'] = None; from datastill.cli import main; main()"
    command = [sys.executable, "-c", code, "list", "methods"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "krr-st" in done.stdout, done.stderr
