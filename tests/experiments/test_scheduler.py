"""Stages in the order of their dependencies, in this process and in subprocesses."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
import torch

from datastill.core import checkpoint
from datastill.core.errors import ConfigError, DataError
from datastill.core.tensor_file import read_checked
from datastill.experiments.scheduler import (
    RunStage,
    Submit,
    in_subprocesses,
    in_this_process,
    on_ray,
    run_stages,
)

DEPENDS_ON: dict[str, tuple[str, ...]] = {"a": (), "b": ("a",), "c": (), "d": ("b", "c")}
Executor = Callable[[RunStage], AbstractContextManager[Submit]]


SUBPROCESSES = pytest.param(partial(in_subprocesses, workers=2), id="in subprocesses")
RAY_MARKS = (  # a cluster on this machine
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra ray is missing"),
)
RAY = pytest.param(partial(on_ray, address="local", gpus=0), marks=RAY_MARKS, id="on ray")
every_executor = pytest.mark.parametrize("executor", [in_this_process, SUBPROCESSES, RAY])


def leave_a_file(folder: Path, name: str) -> None:
    """A stage that reads the results of others and leaves its own."""
    read = "".join((folder / needed).read_text() for needed in DEPENDS_ON[name])
    (folder / name).write_text(f"{name}({read})")


def fail_at(broken: str, error: Exception, folder: Path, name: str) -> None:
    if name == broken:
        raise error
    (folder / name).touch()


def die_at(broken: str, folder: Path, name: str) -> None:
    if name == broken:
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / name).touch()


def count_threads(folder: Path, name: str) -> None:
    (folder / name).write_text(str(torch.get_num_threads()))


@every_executor
def test_run_stages__each_stage_finds_the_results_it_depends_on(
    executor: Executor, tmp_path: Path
) -> None:
    with executor(partial(leave_a_file, tmp_path)) as submit:
        assert run_stages(DEPENDS_ON, submit, at_once=2) == {}
    assert (tmp_path / "d").read_text() == "d(b(a())c())"


@every_executor
def test_run_stages__failure_stops_only_what_depends_on_it(
    executor: Executor, tmp_path: Path
) -> None:
    error = DataError("there is no folder x")
    with executor(partial(fail_at, "b", error, tmp_path)) as submit:
        failed = run_stages(DEPENDS_ON, submit, at_once=2)
    assert failed == {"b": "there is no folder x", "d": "needs b, which failed"}
    assert {file.name for file in tmp_path.iterdir()} == {"a", "c"}


@pytest.mark.parametrize("executor", [SUBPROCESSES, RAY])
def test_run_stages__killed_stage_is_named_and_takes_no_other_along(
    executor: Executor, tmp_path: Path
) -> None:
    with executor(partial(die_at, "a", tmp_path)) as submit:
        failed = run_stages(DEPENDS_ON, submit, at_once=2)
    assert "died" in failed["a"] and set(failed) == {"a", "b", "d"}
    assert (tmp_path / "c").exists()


@every_executor
def test_run_stages__defect_is_named_with_its_kind(executor: Executor, tmp_path: Path) -> None:
    with executor(partial(fail_at, "c", KeyError("width"), tmp_path)) as submit:
        assert run_stages(DEPENDS_ON, submit, at_once=2)["c"] == "KeyError: 'width'"


def test_in_subprocesses__share_the_cores(tmp_path: Path) -> None:
    with in_subprocesses(partial(count_threads, tmp_path), workers=2) as submit:
        run_stages({"a": (), "b": ()}, submit, at_once=2)
    assert (tmp_path / "a").read_text() == str(max(1, (os.cpu_count() or 1) // 2))


def test_run_stages__runs_as_many_at_once_as_are_ready(tmp_path: Path) -> None:
    """Neither of two stages that wait for each other could end alone."""
    with in_subprocesses(partial(wait_for_the_other, tmp_path), workers=2) as submit:
        assert run_stages({"a": (), "b": ()}, submit, at_once=2) == {}


def wait_for_the_other(folder: Path, name: str) -> None:
    (folder / name).touch()
    deadline = time.monotonic() + 60
    while len(list(folder.iterdir())) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)


COUNTERS = """
from datastill.experiments.scheduler import in_subprocesses, run_stages
from datastill.core.signals import default_signal_handlers
import counters

if __name__ == "__main__":
    with default_signal_handlers(), in_subprocesses(counters.count, workers=2) as submit:
        run_stages({"a": (), "b": ()}, submit, at_once=2)
"""
COUNT = """
import dataclasses, os, pathlib, time, torch
from datastill.core.loop import CheckpointConfig, run_steps

@dataclasses.dataclass
class Counted:
    steps: torch.Tensor

def count(name):
    state = Counted(torch.zeros(1))
    def step(number):
        state.steps += 1
        if number == 3:
            pathlib.Path(name).write_text(str(os.getpid()))
        time.sleep(0.05)
        return {}
    saving = CheckpointConfig(pathlib.Path(name + ".safetensors"), {}, 1e9)
    run_steps(name, state, step, length=100000, saving=saving)
"""


@pytest.mark.parametrize(("way", "code"), [("SIGKILL", None), ("SIGTERM", 143), ("SIGINT", 1)])
def test_in_subprocesses__stages_save_and_end_with_the_process_that_started_them(
    way: str, code: int | None, tmp_path: Path
) -> None:
    (tmp_path / "main.py").write_text(COUNTERS)
    (tmp_path / "counters.py").write_text(COUNT)
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(tmp_path)])
    env, number = {**os.environ, "PYTHONPATH": path}, signal.Signals[way]
    with subprocess.Popen(
        [sys.executable, "main.py"], cwd=tmp_path, env=env, stderr=subprocess.DEVNULL
    ) as run:
        pids = [read_pid(tmp_path / name) for name in ("a", "b")]
        run.send_signal(number)
    for pid in pids:
        wait_until(lambda pid=pid: not is_alive(pid))
    assert run.returncode in (code, -number)
    for name in ("a", "b") if code else ():
        file = tmp_path / f"{name}.safetensors"
        tensors = read_checked(file, checkpoint.FORMAT, checkpoint.FORMAT_VERSION)[0]
        assert float(tensors["state.state.steps"]) >= 4


def read_pid(file: Path) -> int:
    wait_until(lambda: file.exists() and file.read_text() != "")
    return int(file.read_text())


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_on_ray__without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(ConfigError, match=r"pip install 'datastill\[ray\]'"),
        on_ray(print, "local", gpus=0),
    ):
        pass


def test_in_this_process__passes_an_interruption_on() -> None:
    def interrupt(name: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), in_this_process(interrupt) as submit:
        run_stages(DEPENDS_ON, submit)


def test_run_stages__reports_which_stage_starts(capsys: pytest.CaptureFixture[str]) -> None:
    with in_this_process(lambda name: None) as submit:
        assert run_stages(DEPENDS_ON, submit) == run_stages({}, submit) == {}
    assert "stage 1 of 4: a" in capsys.readouterr().err
