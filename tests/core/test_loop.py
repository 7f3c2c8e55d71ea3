"""The loop: resumes at any step, stops at what is not finite, logs each step once."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from factories import KilledError, always_saving, killed_at
from torch import Generator, Tensor

from datastill.core import loop
from datastill.core.errors import NotFiniteError
from datastill.core.loop import CheckpointConfig, PhaseCost, run_steps
from datastill.core.rng import fork
from datastill.core.run_folder import RunFolder

LENGTH = 6
Step = Callable[[int], Mapping[str, Tensor]]


@dataclass
class Walk:
    """A random walk."""

    position: Tensor
    generator: Generator


def a_walk() -> Walk:
    return Walk(torch.zeros(3, dtype=torch.float64), fork(0, "walk"))


def stepper(walk: Walk) -> Step:
    def step(number: int) -> Mapping[str, Tensor]:
        walk.position += number * torch.randn(3, dtype=torch.float64, generator=walk.generator)
        return {"length": walk.position.norm()}

    return step


def walked(steps: int) -> Tensor:
    walk = a_walk()
    for number in range(steps):
        stepper(walk)(number)
    return walk.position


def run(
    folder: RunFolder, kill: int | None = None, *, every_seconds: float = 0.0
) -> tuple[Walk, PhaseCost]:
    walk = a_walk()
    step = stepper(walk) if kill is None else killed_at(kill, stepper(walk))
    saving = CheckpointConfig(
        folder.path / "checkpoint-walk.safetensors", {"seed": 0}, every_seconds
    )
    return walk, run_steps("walk", walk, step, length=LENGTH, saving=saving, log=folder)


def steps_in(folder: RunFolder) -> list[int]:
    lines = (folder.path / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.open(tmp_path / "run", {}, resume=False)


@pytest.mark.parametrize("kill", range(LENGTH))
def test_run_steps__resumes_bit_for_bit_and_logs_each_step_once(
    folder: RunFolder, kill: int
) -> None:
    with pytest.raises(KilledError):
        run(folder, kill)
    assert torch.equal(run(folder)[0].position, walked(LENGTH))
    assert steps_in(folder) == list(range(LENGTH))


def test_run_steps__survives_kill_after_kill(folder: RunFolder) -> None:
    for _ in range(LENGTH - 1):
        with pytest.raises(KilledError):
            run(folder, kill=1)
    assert torch.equal(run(folder)[0].position, walked(LENGTH))


def test_run_steps__killed_before_the_first_checkpoint_logs_each_step_once(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "FLUSH_STEPS", 1)
    with pytest.raises(KilledError):
        run(folder, kill=4, every_seconds=1e9)
    assert steps_in(folder) == [0, 1, 2, 3]
    run(folder)
    assert steps_in(folder) == list(range(LENGTH))


def test_run_steps__log_is_rewound_to_an_older_checkpoint(folder: RunFolder) -> None:
    with pytest.raises(KilledError):
        run(folder, kill=2)
    for step in (2, 3):
        folder.log(step, {"length": -1.0})
    folder.append_text("metrics.jsonl", '{"step": 4, "len')
    run(folder)
    assert steps_in(folder) == list(range(LENGTH))
    assert "-1.0" not in (folder.path / "metrics.jsonl").read_text()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("number", [0, 3, LENGTH - 1])
def test_run_steps__names_step_and_metric_that_is_not_finite(bad: float, number: int) -> None:
    def step(at: int) -> Mapping[str, float]:
        return {"fine": 1.0, "outer_loss": bad if at == number else 0.5}

    with pytest.raises(NotFiniteError, match=f"distill: outer_loss is .* at step {number};"):
        run_steps("distill", a_walk(), step, length=LENGTH)


def test_run_steps__saves_no_state_that_is_not_finite(folder: RunFolder) -> None:
    walk = a_walk()
    normal = stepper(walk)

    def step(number: int) -> Mapping[str, Tensor]:
        if number == 3:
            walk.position.fill_(torch.nan)
        return normal(number)

    saving = CheckpointConfig(folder.path / "checkpoint-walk.safetensors", {"seed": 0}, 0.0)
    with pytest.raises(NotFiniteError):
        run_steps("walk", walk, step, length=LENGTH, saving=saving, log=folder)
    assert torch.equal(run(folder)[0].position, walked(LENGTH))


def test_run_steps__cost_adds_up_over_interruptions(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(10**6))
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock))
    with pytest.raises(KilledError):
        run(folder, kill=4)
    first = next(clock)
    resumed = run(folder)[1]
    assert 0 < next(clock) - first < resumed.wall_seconds < next(clock)


def test_run_steps__says_where_it_continues(
    folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KilledError):
        run(folder, kill=4)
    run(folder)
    assert "walk: continuing after step 4 of 6" in capsys.readouterr().err


def test_saving__clear_removes_all_parts_and_nothing_else(tmp_path: Path) -> None:
    saving = always_saving(tmp_path)
    for path in (saving.path, saving.for_part("a").path, tmp_path / "distilled.safetensors"):
        path.touch()
    saving.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["distilled.safetensors"]
