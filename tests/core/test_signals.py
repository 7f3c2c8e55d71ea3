"""Signals: a flag while a loop runs, the handlers of before after it."""

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from factories import always_saving
from torch import Tensor

from datastill.core.loop import CheckpointConfig, run_steps
from datastill.core.signals import SignalState, capture_signals, default_signal_handlers

LENGTH = 6
NEVER = 1e9  # seconds between checkpoints


@pytest.fixture(autouse=True)
def not_ignored() -> Iterator[None]:
    """SIGHUP ends a process, also where the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def counted(
    saving: CheckpointConfig | None, signals: Mapping[int, signal.Signals] | None = None
) -> list[int]:
    """Run the phase; `signals` come in the middle of steps. Returns the steps that were taken."""
    count, taken = torch.zeros(1), list[int]()

    def step(number: int) -> Mapping[str, Tensor]:
        if signals and number in signals:
            os.kill(os.getpid(), signals[number])
        count.add_(1)
        taken.append(number)
        return {"steps": count.clone()}

    run_steps("count", count, step, length=LENGTH, saving=saving)
    assert float(count) == LENGTH
    return taken


def rarely(folder: Path) -> CheckpointConfig:
    return CheckpointConfig(folder / "checkpoint-count.safetensors", {}, every_seconds=NEVER)


@pytest.mark.parametrize("at", range(LENGTH))
@pytest.mark.parametrize(
    ("number", "left_by", "code"),
    [
        (signal.SIGTERM, SystemExit, 143),
        (signal.SIGHUP, SystemExit, 129),
        (signal.SIGINT, KeyboardInterrupt, None),
    ],
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
    count = torch.zeros(1)

    def step(number: int) -> Mapping[str, float]:
        os.kill(os.getpid(), signal.SIGINT)
        count.add_(1)
        return {}

    with pytest.raises(KeyboardInterrupt):
        run_steps("count", count, step, length=LENGTH)
    assert float(count) == 0  # in the middle of a step


def test_run_steps__handlers_are_as_before(tmp_path: Path) -> None:
    watched = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in watched]
    counted(always_saving(tmp_path))
    assert [signal.getsignal(number) for number in watched] == before
    with pytest.raises(SystemExit):
        counted(rarely(tmp_path), {1: signal.SIGTERM})
    assert [signal.getsignal(number) for number in watched] == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_steps__inner_phase_is_given_up_after_one_of_its_steps(
    number: signal.Signals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A probe inside of a distillation has nothing to save; the distillation may have."""
    count, saving, inner_steps = torch.zeros(1), always_saving(tmp_path), list[int]()

    def inner(step: int) -> Mapping[str, float]:
        inner_steps.append(step)
        if count > 1:
            os.kill(os.getpid(), number)
        return {"inner": float(step)}

    def outer(step: int) -> Mapping[str, float]:
        count.add_(1)
        run_steps("inner", torch.zeros(1), inner, length=3)
        return {"outer": float(step)}

    with pytest.raises((SystemExit, KeyboardInterrupt)):
        run_steps("outer", count, outer, length=LENGTH, saving=saving)
    assert inner_steps == [0, 1, 2, 0]
    shown = capsys.readouterr().err
    assert "outer: stopped in step 1. The last checkpoint is unharmed; --resume continues" in shown


def test_run_steps__interrupt_is_answered_at_once_and_tells_of_no_missing_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = ""

    def step(number: int) -> Mapping[str, float]:
        nonlocal shown
        os.kill(os.getpid(), signal.SIGINT)
        shown = capsys.readouterr().err
        os.kill(os.getpid(), signal.SIGINT)
        return {}

    saving = rarely(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_steps("count", torch.zeros(1), step, length=LENGTH, saving=saving)
    assert shown == "SIGINT: stopping after this step; press Ctrl-C again to stop now\n"
    assert "count: stopped in step 0. No checkpoint was written yet" in capsys.readouterr().err
    assert not saving.path.exists()


def test_capture_signals__what_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with capture_signals() as signals:
            os.kill(os.getpid(), signal.SIGINT)
        assert signals.stop is None and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_capture_signals__in_another_thread_changes_nothing() -> None:
    before, seen = signal.getsignal(signal.SIGINT), list[bool]()

    def capture() -> None:
        with capture_signals() as signals:
            seen.append(signal.getsignal(signal.SIGINT) is before and signals == SignalState())

    thread = threading.Thread(target=capture)
    thread.start()
    thread.join()
    assert seen == [True]


def test_default_signal_handlers__termination_is_exit_code_143() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit, match="143"), default_signal_handlers():
        os.kill(os.getpid(), signal.SIGUSR1)  # nothing to save
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
