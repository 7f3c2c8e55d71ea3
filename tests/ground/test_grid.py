"""Jobs in the order of their needs, in this process, in several, and on a Ray cluster."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch

from datastill.ground import checkpoint
from datastill.ground.errors import ConfigError, DataError
from datastill.ground.grid import Job, Submit, Work, here, run_grid
from datastill.ground.processes import processes
from datastill.ground.ray_cluster import ray_cluster
from datastill.ground.tensor_file import read_checked

JOBS = [Job("a"), Job("b", ("a",)), Job("c"), Job("d", ("b", "c"))]
Place = Callable[[Work], AbstractContextManager[Submit]]


@contextmanager
def in_this_process(work: Work) -> Iterator[Submit]:
    yield here(work)


PLACES: dict[str, Place] = {
    "here": in_this_process,
    "processes": partial(processes, workers=2),
}
every_place = pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)


def leave_a_file(folder: Path, name: str) -> None:
    """A job that reads what it needs and leaves a result."""
    needs = {job.name: job.needs for job in JOBS}[name]
    read = "".join((folder / need).read_text() for need in needs)
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


@every_place
def test_run_grid__each_job_finds_the_results_of_its_needs(place: Place, tmp_path: Path) -> None:
    with place(partial(leave_a_file, tmp_path)) as submit:
        assert run_grid(JOBS, submit) == {}
    assert (tmp_path / "d").read_text() == "d(b(a())c())"


@every_place
def test_run_grid__failure_stops_only_what_needs_it(place: Place, tmp_path: Path) -> None:
    error = DataError("there is no folder x")
    with place(partial(fail_at, "b", error, tmp_path)) as submit:
        failed = run_grid(JOBS, submit)
    assert failed == {"b": "there is no folder x", "d": "needs b, which failed"}
    assert {file.name for file in tmp_path.iterdir()} == {"a", "c"}


@every_place
def test_run_grid__defect_is_named_with_its_kind(place: Place, tmp_path: Path) -> None:
    with place(partial(fail_at, "c", KeyError("width"), tmp_path)) as submit:
        assert run_grid(JOBS, submit)["c"] == "KeyError: 'width'"


def test_processes__killed_job_is_named_and_takes_no_other_along(tmp_path: Path) -> None:
    with processes(partial(die_at, "a", tmp_path), workers=2) as submit:
        failed = run_grid(JOBS, submit)
    assert "SIGKILL" in failed["a"] and set(failed) == {"a", "b", "d"}
    assert (tmp_path / "c").exists()


def test_processes__share_the_cores(tmp_path: Path) -> None:
    with processes(partial(count_threads, tmp_path), workers=2) as submit:
        run_grid([Job("a"), Job("b")], submit)
    assert (tmp_path / "a").read_text() == str(max(1, (os.cpu_count() or 1) // 2))


def test_run_grid__runs_as_many_at_once_as_are_ready(tmp_path: Path) -> None:
    """Neither of two jobs that wait for each other could end alone."""
    with processes(partial(wait_for_the_other, tmp_path), workers=2) as submit:
        assert run_grid([Job("a"), Job("b")], submit) == {}


def wait_for_the_other(folder: Path, name: str) -> None:
    (folder / name).touch()
    deadline = time.monotonic() + 60
    while len(list(folder.iterdir())) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)


SLEEPERS = """
import os, time
from functools import partial
from pathlib import Path
from datastill.ground.grid import Job, run_grid
from datastill.ground.processes import processes
import sleepers

if __name__ == "__main__":
    with processes(sleepers.sleep, workers=2) as submit:
        run_grid([Job("a"), Job("b")], submit)
"""
SLEEP = """
import os, pathlib, time

def sleep(name):
    pathlib.Path(name).write_text(str(os.getpid()))
    time.sleep(600)
"""


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGINT])
def test_processes__end_with_the_process_that_started_them(
    way: signal.Signals, tmp_path: Path
) -> None:
    (tmp_path / "main.py").write_text(SLEEPERS)
    (tmp_path / "sleepers.py").write_text(SLEEP)
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(tmp_path)])
    env = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(
        [sys.executable, "main.py"], cwd=tmp_path, env=env, stderr=subprocess.DEVNULL
    ) as grid:
        pids = [read_pid(tmp_path / name) for name in ("a", "b")]
        grid.send_signal(way)
    for pid in pids:
        wait_until(lambda pid=pid: not is_alive(pid))


COUNTERS = """
from datastill.ground.grid import Job, run_grid
from datastill.ground.processes import processes
from datastill.ground.signals import between_loops
import counters

if __name__ == "__main__":
    with between_loops(), processes(counters.count, workers=2) as submit:
        run_grid([Job("a"), Job("b")], submit)
"""
COUNT = """
import dataclasses, os, pathlib, time, torch
from datastill.ground.loop import Saving, run_steps

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
    saving = Saving(pathlib.Path(name + ".safetensors"), {}, 1e9)
    run_steps(name, state, step, length=100000, saving=saving)
"""


@pytest.mark.parametrize(("way", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 1)])
def test_processes__parts_save_when_the_grid_is_stopped(
    way: signal.Signals, code: int, tmp_path: Path
) -> None:
    (tmp_path / "main.py").write_text(COUNTERS)
    (tmp_path / "counters.py").write_text(COUNT)
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), str(tmp_path)]),
    }
    with subprocess.Popen(
        [sys.executable, "main.py"], cwd=tmp_path, env=env, stderr=subprocess.DEVNULL
    ) as grid:
        for name in ("a", "b"):
            read_pid(tmp_path / name)
        grid.send_signal(way)
    assert grid.returncode in (code, -way)
    for name in ("a", "b"):
        tree = read_checked(
            tmp_path / f"{name}.safetensors", checkpoint.FORMAT, checkpoint.FORMAT_VERSION
        )[0]
        assert float(tree["state.state.steps"]) >= 4


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


def test_ray_cluster__without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(ConfigError, match=r"pip install 'datastill\[ray\]'"),
        ray_cluster(print, "local", gpus=0),
    ):
        pass


def test_here__passes_an_interruption_on() -> None:
    def interrupt(name: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_grid(JOBS, here(interrupt))


def test_run_grid__asks_for_nothing_where_there_is_nothing() -> None:
    def refuse(name: str) -> Future[None]:
        raise AssertionError(name)

    assert run_grid([], refuse) == {}
