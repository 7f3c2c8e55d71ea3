"""The loop of every phase: step, log, show, checkpoint; and continue where it was killed.

A phase is a state and a function that takes it one step further. Target training, distillation,
pre-training and fine-tuning all run in `run_steps`.
"""

import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from datastill.core import checkpoint
from datastill.core.errors import (
    InsufficientMemoryError,
    NotFiniteError,
    NumericalError,
    is_out_of_memory,
)
from datastill.core.locks import exclusive_lock
from datastill.core.progress import ProgressBar, logger, progress_bar
from datastill.core.ranks import Ranks
from datastill.core.signals import (
    SignalState,
    capture_signals,
    exit_for_signal,
    stop_of_outer_loop,
)

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

FLUSH_STEPS = 100  # metrics wait on the device at most this long before they are read

Metrics = Mapping[str, Tensor | float | int]


class MetricsLog(Protocol):
    """Receives the metrics of a phase; a run folder is one."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add the values of one step."""

    def rewind(self, step: int) -> None:
        """Remove everything from `step` on: a resumed run logs it again."""


@dataclass(frozen=True)
class CheckpointConfig:
    """Where and how often a phase saves its state.

    Args:
        path: The checkpoint, a safetensors file.
        identity: What the run is, as JSON values; only the same run can continue from the file.
        every_seconds: Seconds between checkpoints.
        ranks: The ranks that share the state: the first one writes it, all of them read it.
    """

    path: Path
    identity: dict[str, Any]
    every_seconds: float = 60.0
    ranks: Ranks = Ranks()

    def for_part(self, name: str) -> "CheckpointConfig":
        """Return the same for one of several phases whose checkpoints are removed together."""
        return replace(self, path=self.path.with_name(f"{self.path.stem}-{name}.safetensors"))

    def clear(self) -> None:
        """Remove the checkpoints of this phase and its parts, once the result is saved."""
        if self.ranks.is_main:
            for file in self.path.parent.glob(f"{self.path.stem}*.safetensors"):
                file.unlink()


@dataclass(frozen=True)
class PhaseCost:
    """Time and memory of a phase, over all its interruptions."""

    wall_seconds: float
    peak_memory_bytes: int


@dataclass
class _Position:
    """What a checkpoint holds."""

    state: Any
    step: int = 0
    seconds: float = 0.0


LoopRunner = Callable[[str, Any, Callable[[int], Metrics], int], PhaseCost]
_replacement: ContextVar[LoopRunner | None] = ContextVar("_replacement", default=None)


@contextmanager
def replaced_loop(runner: LoopRunner) -> Iterator[None]:
    """Let `run_steps` call `runner(phase, state, step, length)`: an estimate runs a few steps."""
    token = _replacement.set(runner)
    try:
        yield
    finally:
        _replacement.reset(token)


def run_steps(
    phase: str,
    state: Any,
    step: Callable[[int], Metrics],
    *,
    length: int,
    saving: CheckpointConfig | None = None,
    log: MetricsLog | None = None,
    lower: str = "the batch",
) -> PhaseCost:
    """Run `step(0)`, ..., `step(length - 1)`, each of which advances `state` in place.

    With `saving`, the checkpoint at its path, if there is one, is restored first, and the phase
    continues from there bit for bit. SIGINT, SIGTERM and SIGHUP stop it after a step and a
    checkpoint. Many ranks stop and save after the same step, whichever of them received the signal.
    Without `saving`, signals are left to the caller; a phase inside of a step of another one is
    given up after one of its own steps when the outer one is to stop.

    Args:
        phase: Name, shown with the progress.
        state: What the steps change: a dataclass of tensors, modules, generators and so on, as
            described in `datastill.core.checkpoint`.
        step: Takes the number of the step; returns metrics, which may still be on the device.
        length: Number of steps.
        saving: Where to save checkpoints. The caller clears it once the result is saved.
        log: Receives the metrics of every step.
        lower: What to lower where memory runs out, for the error message.

    Raises:
        KeyboardInterrupt: SIGINT came.
        SystemExit: SIGTERM (code 143) or SIGHUP (129) came.
        NotFiniteError: A metric became NaN or infinite; no checkpoint of that state is written.
        NumericalError: A step could not compute its result; its state is not written.
        InsufficientMemoryError: Memory ran out in a step; its state is not written.
        ResumeError: The checkpoint belongs to another run.
        ConfigError: Another process runs this phase in the same folder.
    """
    if (runner := _replacement.get()) is not None:
        return runner(phase, state, step, length)
    return _Run(phase, _Position(state), step, length, saving, log, lower).run()


@dataclass
class _Run:
    phase: str
    position: _Position
    step: Callable[[int], Metrics]
    length: int
    saving: CheckpointConfig | None
    log: MetricsLog | None
    oom_hint: str
    signals: SignalState = field(default_factory=SignalState)
    saved_step: int | None = None  # of the checkpoint that is there
    waiting: list[tuple[int, Metrics]] = field(default_factory=list)  # metrics not yet read

    def run(self) -> PhaseCost:
        """Continue from the checkpoint, where there is one, to the end."""
        saving, position = self.saving, self.position
        with ExitStack() as stack:
            if saving is not None:
                if saving.ranks.is_main:
                    lock = saving.path.with_name(f".{saving.path.stem}.lock")
                    stack.enter_context(exclusive_lock(lock, self.phase))
                shared = saving.ranks.size > 1
                self.signals = stack.enter_context(capture_signals(shared=shared))
                self._resume(saving)
            reporter = stack.enter_context(
                progress_bar(self.phase, position.step, self.length, "steps")
            )
            try:
                stop = self._loop(reporter)
            except (KeyboardInterrupt, SystemExit):  # did not wait for the end of the step
                if saving is not None:
                    logger.info(
                        f"{self.phase}: stopped in step {position.step}.{self._checkpoint_note()}"
                    )
                raise
        if stop := stop or self.signals.stop:  # or it came after the last step
            exit_for_signal(stop)
        return PhaseCost(position.seconds, peak_memory_bytes())

    def _resume(self, saving: CheckpointConfig) -> None:
        if saving.path.exists():
            checkpoint.read(saving.path, self.position, saving.identity)
            self.saved_step = self.position.step
            logger.info(f"{self.phase}: continuing after step {self.saved_step} of {self.length}")
        saving.ranks.check_equal(self.position.step, f"the step that {self.phase} starts from")
        if self.log is not None:  # steps after the checkpoint may have been logged too
            self.log.rewind(self.position.step)

    def _loop(self, reporter: ProgressBar) -> signal.Signals | None:
        """Take the steps; return the signal that stopped them early, if one did."""
        position = self.position
        last_read = last_saved = time.monotonic()
        while position.step < self.length:
            self.waiting.append((position.step, self._guarded_step(position.step)))
            position.step += 1
            last = position.step == self.length
            stop, save = self._stop_and_save(last_saved)
            show = last or reporter.due()
            if show or save or len(self.waiting) >= FLUSH_STEPS:
                values = self._read_metrics()
                now = time.monotonic()
                position.seconds, last_read = position.seconds + now - last_read, now
                if show:
                    reporter.update(position.step, values)
            if save and (stop is not None or not last):
                self._save()
                last_saved, self.signals.save = time.monotonic(), False
            if stop is not None:
                if self.saving is not None:
                    steps = f"step {position.step} of {self.length}"
                    logger.info(f"{self.phase}: {stop.name}; saved after {steps}")
                return stop
        return None

    def _guarded_step(self, number: int) -> Metrics:
        """Take one step; errors of numbers and memory name phase and step."""
        try:
            return self.step(number)
        except NumericalError as error:
            message = f"{self.phase}, step {number}: {error}.{self._checkpoint_note()}"
            raise type(error)(message) from error
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            reason = (str(error).splitlines() or ["MemoryError"])[0]
            raise InsufficientMemoryError(
                f"{self.phase}, step {number}: memory ran out ({reason}); lower {self.oom_hint}, or"
                f" go on where there is more.{self._checkpoint_note()}"
            ) from error

    def _checkpoint_note(self) -> str:
        if self.saving is None:
            return ""
        if self.saved_step is None:
            return " No checkpoint was written yet"
        return f" The last checkpoint is unharmed; --resume continues after step {self.saved_step}"

    def _stop_and_save(self, last_saved: float) -> tuple[signal.Signals | None, bool]:
        """Return the signal that stops the phase now, and whether to save; equal on all ranks."""
        if self.saving is None:
            return stop_of_outer_loop(), False
        due = self.signals.save or time.monotonic() - last_saved >= self.saving.every_seconds
        number, save = self.saving.ranks.all_reduce_max([self.signals.stop or 0, due])
        stop = signal.Signals(number) if number else None
        return stop, bool(save) or stop is not None

    def _save(self) -> None:
        assert self.saving is not None, "nothing is due without it"
        if self.saving.ranks.is_main:
            checkpoint.write(self.saving.path, self.position, self.saving.identity)
        self.saved_step = self.position.step
        logger.debug("%s: saved after step %d", self.phase, self.saved_step)

    def _read_metrics(self) -> dict[str, float]:
        """Log the waiting metrics, which waits for the device; return those of the last step."""
        values: dict[str, float] = {}
        for step, metrics in self.waiting:
            values = {name: _number(value) for name, value in metrics.items()}
            for name, value in values.items():
                if not math.isfinite(value):
                    raise NotFiniteError(
                        f"{self.phase}: {name} is {value} at step {step}; lower the learning rate,"
                        " or look at the images with 'datastill data check'."
                        + self._checkpoint_note()
                    )
            if self.log is not None:
                self.log.log(step, values)
        self.waiting.clear()
        return values


def _number(value: Tensor | float | int) -> float:
    number = value.item() if isinstance(value, Tensor) else value
    return int(number) if isinstance(number, int) else float(number)


def peak_memory_bytes() -> int:
    """Return the peak memory of this process: on the GPU where one was used, else on the host."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0:
        return torch.cuda.max_memory_allocated()
    if not resource:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux kibibytes
