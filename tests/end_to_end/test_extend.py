"""The example of docs/extend.md, added as a new user would add it: as one more file."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import NETWORK, Command
from factories import KilledError, killed_at, toy_problem

import datastill.methods
from datastill.core.lookup import names
from datastill.core.run_folder import RunFolder
from datastill.data.source import ImageSource
from datastill.distill import distill
from datastill.distilled_set import DistilledSet
from datastill.methods.method import Method
from datastill.networks.architecture import Architecture
from datastill.objectives.objective import Objective
from datastill.transfer.task import Task

PAGE = Path(__file__).parents[2] / "docs" / "extend.md"


def code() -> str:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    return str(example)


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that belongs to datastill.methods too, with the page's file in it."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "k_center.py").write_text(code(), encoding="utf-8")
    paths = [*datastill.methods.__path__, str(tmp_path / "more")]
    monkeypatch.setattr(datastill.methods, "__path__", paths)


@pytest.mark.usefixtures("added")
def test_extend__example_runs_from_the_command_line(
    datastill: Command, photos: Path, runs: Path, tmp_path: Path
) -> None:
    assert "k-center" in names("datastill.methods")
    words = ["distill", "--data", f"folder:{photos}", "--target", runs / "target", "--count", "7"]
    done = datastill(*words, "--method", "k-center", *NETWORK, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    distilled = DistilledSet.load(tmp_path / "run")
    assert len(distilled) == 7 and distilled.method == "k-center"
    assert len({x.numpy().tobytes() for x in distilled.images}) == 7


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The page's method, imported as a module of the user's own."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "k_center.py").write_text(code(), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "mine")
    yield importlib.import_module("k_center").KCenter
    del sys.modules["k_center"]


def test_extend__example_resumes_bit_for_bit(
    outside: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = toy_problem(6)
    unbroken = distill(outside(), problem)
    folder = RunFolder.open(tmp_path / "run", {}, resume=False, checkpoint_seconds=0.0)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(outside, "step", killed_at(3, outside.step))
        distill(outside(), problem, folder=folder)
    assert torch.equal(distill(outside(), problem, folder=folder).images, unbroken.images)


@pytest.mark.parametrize(
    "base",
    [Method, Architecture, ImageSource, Objective, Task],
)
def test_extend__page_says_what_each_kind_defines(base: type[Any]) -> None:
    (row,) = (
        line
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if base.__name__ in line and line[0] == "|"
    )
    listed = re.split(r"[|(]", row.partition(f"`{base.__name__}`:")[2])[0]
    assert set(re.findall(r"`(\w+)`", listed)) == base.__abstractmethods__
