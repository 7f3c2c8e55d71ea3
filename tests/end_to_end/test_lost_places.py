"""The place of a run is lost under it: a full disk, a read-only folder, a folder that is gone.

The run ends with one message, what was saved before is whole, and it goes on from there.
"""

import ctypes
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import METHOD, NETWORK, Command
from reliability import Figures
from test_processes import DEADLINE_SECONDS, LONG, same_files, started, wait_for_steps

TRIES = 5
DROP_FROM_BOUNDING_SET, OVERRIDE_PERMISSIONS = 24, 1  # prctl(2), capabilities(7)


def full_disk(process: subprocess.Popen[str], folder: Path) -> None:
    """Files of the process can no longer grow beyond 3,000 bytes: fewer than a checkpoint has."""
    _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (3000, hard))


def read_only(process: subprocess.Popen[str], folder: Path) -> None:
    folder.chmod(0o500)


def gone(process: subprocess.Popen[str], folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def as_anybody() -> None:
    """Give up root's right to write where permissions forbid it; others do not have it."""
    ctypes.CDLL(None).prctl(DROP_FROM_BOUNDING_SET, OVERRIDE_PERMISSIONS, 0, 0, 0)


@pytest.mark.parametrize("loss", [full_disk, read_only, gone])
def test_distill__that_loses_its_place_ends_with_a_message_and_goes_on_later(
    datastill: Command,
    photos: Path,
    runs: Path,
    tmp_path: Path,
    figures: Figures,
    loss: Callable[[subprocess.Popen[str], Path], None],
) -> None:
    words: list[str | Path] = ["distill", "--data", f"folder:{photos}", "--target", runs / "target"]
    words += ["--count", "5", *METHOD, "--method.outer_steps", "300", *NETWORK]
    folder = tmp_path / "killed"
    for _ in range(TRIES):
        process = started(*words, *LONG, "--out", folder, before=as_anybody)
        wait_for_steps(process, folder, 20)
        loss(process, folder)
        _, err = process.communicate(timeout=DEADLINE_SECONDS)
        if loss is gone:
            shutil.rmtree(folder, ignore_errors=True)
            folder.with_name("elsewhere").rename(folder)
        folder.chmod(0o700)
        if process.returncode != 0:
            break
        shutil.rmtree(folder)  # on a busy machine the run was over before it lost its place
    assert process.returncode == 2 and "Traceback" not in err, err
    assert f"{folder}/" in err.splitlines()[-1] and "cannot be written: " in err.splitlines()[-1]
    resumed = datastill(*words, "--out", folder, "--resume")
    assert resumed.code == 0 and "distill: continuing after step" in resumed.err
    assert datastill(*words, "--out", tmp_path / "whole").code == 0
    same_files(tmp_path, "distilled.safetensors", "initial.safetensors", "metrics.jsonl")
    figures.add(
        f"place lost: {loss.__name__.replace('_', ' ')}", "one message, resumed to equal bits"
    )
