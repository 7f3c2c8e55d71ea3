"""Signals: a flag while a loop runs, the handlers of before after it."""

import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor
from toys import always_saving

from datastill.ground.loop import Saving, run_steps
from datastill.ground.signals import Asked, between_loops, listening

LENGTH = 6
NEVER = 1e9  # seconds between checkpoints


@dataclass
class Count:
    """Counts its steps."""

    steps: Tensor


def counted(
    saving: Saving | None, signals: Mapping[int, signal.Signals] | None = None
) -> list[int]:
    """Run the phase; `signals` come in the middle of steps. Returns the steps that were taken."""
    state, taken = Count(torch.zeros(1)), list[int]()

    def step(number: int) -> Mapping[str, Tensor]:
        if signals and number in signals:
            os.kill(os.getpid(), signals[number])
        state.steps += 1
        taken.append(number)
        return {"steps": state.steps.clone()}

    run_steps("count", state, step, length=LENGTH, saving=saving)
    assert float(state.steps) == LENGTH
    return taken


def rarely(folder: Path) -> Saving:
    return Saving(folder / "checkpoint-count.safetensors", {}, every_seconds=NEVER)


@pytest.mark.parametrize("at", range(LENGTH))
@pytest.mark.parametrize(
    ("number", "left_by", "code"),
    [(signal.SIGTERM, SystemExit, 143), (signal.SIGINT, KeyboardInterrupt, None)],
)
def test_run_steps__stop_saves_after_the_step_and_resumes(
    number: signal.Signals, left_by: type[BaseException], code: int | None, at: int, tmp_path: Path
) -> None:
    saving = rarely(tmp_path)
    with pytest.raises(left_by) as left:
        counted(saving, {at: number})
    assert code is None or left.value.args == (code,)
    assert saving.path.exists()
    assert counted(saving) == list(range(at + 1, LENGTH))


def test_run_steps__sigusr1_saves_and_goes_on(tmp_path: Path) -> None:
    saving = rarely(tmp_path)
    with pytest.raises(SystemExit):
        counted(saving, {1: signal.SIGUSR1, 4: signal.SIGTERM})
    saving.clear()
    assert counted(saving, {1: signal.SIGUSR1}) == list(range(LENGTH))
    assert counted(saving) == list(range(2, LENGTH))  # the checkpoint of that moment


def test_run_steps__without_saving_signals_are_the_callers() -> None:
    state = Count(torch.zeros(1))

    def step(number: int) -> Mapping[str, float]:
        os.kill(os.getpid(), signal.SIGINT)
        state.steps += 1
        return {}

    with pytest.raises(KeyboardInterrupt):
        run_steps("count", state, step, length=LENGTH)
    assert float(state.steps) == 0  # in the middle of a step


def test_run_steps__handlers_are_as_before(tmp_path: Path) -> None:
    watched = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in watched]
    counted(always_saving(tmp_path))
    assert [signal.getsignal(number) for number in watched] == before
    with pytest.raises(SystemExit):
        counted(rarely(tmp_path), {1: signal.SIGTERM})
    assert [signal.getsignal(number) for number in watched] == before


def test_run_steps__inner_phase_leaves_a_stop_to_the_outer_one(tmp_path: Path) -> None:
    """A probe inside of a distillation has nothing to save; the distillation has."""
    state, saving = Count(torch.zeros(1)), rarely(tmp_path)

    def inner(number: int) -> Mapping[str, float]:
        os.kill(os.getpid(), signal.SIGTERM)
        return {"inner": float(number)}

    def outer(number: int) -> Mapping[str, float]:
        run_steps("inner", Count(torch.zeros(1)), inner, length=3)
        state.steps += 1
        return {"outer": float(number)}

    with pytest.raises(SystemExit):
        run_steps("outer", state, outer, length=LENGTH, saving=saving)
    assert float(state.steps) == 1 and saving.path.exists()


def test_listening__second_interrupt_does_not_wait() -> None:
    with pytest.raises(KeyboardInterrupt), listening() as asked:
        os.kill(os.getpid(), signal.SIGINT)
        assert asked.stop is signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)


def test_listening__what_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with listening() as asked:
            os.kill(os.getpid(), signal.SIGINT)
        assert asked.stop is None and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_listening__in_another_thread_changes_nothing() -> None:
    before, seen = signal.getsignal(signal.SIGINT), list[bool]()

    def listen() -> None:
        with listening() as asked:
            seen.append(signal.getsignal(signal.SIGINT) is before and asked == Asked())

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [True]


def test_between_loops__termination_is_exit_code_143() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit, match="143"), between_loops():
        os.kill(os.getpid(), signal.SIGUSR1)  # nothing to save
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
