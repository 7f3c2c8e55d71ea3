"""Kill -9 while checkpoints are written: one always loads, and nothing is left lying about."""

import multiprocessing
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from reliability import Figures
from torch import Tensor

from datastill.core import checkpoint
from datastill.core.run_folder import RunFolder

IDENTITY = {"run": "one"}
NUMBERS = 200_000  # 0.8 MB: a save takes about as long as the pause before the kill


@dataclass
class Counting:
    """Every number of the tensor is the step."""

    numbers: Tensor = field(default_factory=lambda: torch.zeros(NUMBERS))
    step: int = 0


def save_for_ever(file: Path, done: Connection) -> None:
    torch.set_num_threads(1)
    state = Counting()
    while True:
        state.step += 1
        state.numbers.fill_(state.step)
        checkpoint.write(file, state, IDENTITY)
        done.send(state.step)


def killed_at_random_moments(file: Path, times: int) -> Iterator[int]:
    """The last step that a process has said to be saved, after each kill."""
    context, moments = multiprocessing.get_context("fork"), random.Random(0)
    for _ in range(times):
        reading, writing = context.Pipe(duplex=False)
        process = context.Process(target=save_for_ever, args=(file, writing))
        process.start()
        writing.close()
        last = reading.recv()
        time.sleep(moments.uniform(0, 0.01))
        process.kill()
        process.join()
        try:
            while True:
                last = reading.recv()
        except EOFError:
            yield last


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("times", [15, pytest.param(200, marks=pytest.mark.torture)])
def test_checkpoint__survives_kills_while_it_is_written(
    tmp_path: Path, times: int, figures: Figures
) -> None:
    file, halves = tmp_path / "run" / "checkpoint.safetensors", 0
    RunFolder.open(tmp_path / "run", IDENTITY, resume=False)
    for last in killed_at_random_moments(file, times):
        state = Counting()
        checkpoint.read(file, state, IDENTITY)
        assert state.step in (last, last + 1)  # it may have been killed before it could say so
        assert bool((state.numbers == state.step).all())
        halves += len(list(file.parent.glob(".*.part")))
        RunFolder.open(tmp_path / "run", IDENTITY, resume=True)
        assert not list(file.parent.glob(".*"))
    assert times < 100 or halves > 0, "no kill hit a save: the test shows nothing"
    figures.add("kill -9 while saving", f"{times} kills, {halves} amid a file: 0 unreadable")
