"""The one loop of every phase: step, log, show, checkpoint; and continue where it was killed.

A phase is a state and a function that takes it one step further. `run_steps` knows nothing of
images or networks; target training, distillation, pre-training and fine-tuning all run in it.
"""

import math
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from datastill.ground import checkpoint
from datastill.ground.alone import undisturbed
from datastill.ground.errors import MemoryShortError, NotFiniteError, NumericalError, exhausted
from datastill.ground.progress import Reporter, reporting, say
from datastill.ground.signals import Asked, end, listening
from datastill.ground.world import World

FLUSH_STEPS = 100  # metrics wait on the device at most this long before they are read

Metrics = Mapping[str, Tensor | float | int]


class MetricsLog(Protocol):
    """Where the metrics of a phase go; a run folder is one."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add the values measured at one step."""

    def rewind(self, step: int) -> None:
        """Forget everything from `step` on: a resumed run will log it again."""


@dataclass(frozen=True)
class Saving:
    """Where and how often a phase saves its state, and to which run the state belongs.

    Many ranks have one state: the first writes it, all of them read it.
    """

    path: Path
    identity: dict[str, Any]
    every_seconds: float = 60.0
    world: World = World()

    def part(self, name: str) -> "Saving":
        """The same for one of several phases that belong together."""
        return replace(self, path=self.path.with_name(f"{self.path.stem}-{name}.safetensors"))

    def clear(self) -> None:
        """Remove the checkpoints of this phase and its parts: the result is safe."""
        if self.world.writes:
            for file in self.path.parent.glob(f"{self.path.stem}*.safetensors"):
                file.unlink()


@dataclass(frozen=True)
class PhaseCost:
    """What a phase took, over all its interruptions."""

    wall_seconds: float
    peak_memory_bytes: int


@dataclass
class _Position:
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
    saving: Saving | None = None,
    log: MetricsLog | None = None,
    lower: str = "the batch",
) -> PhaseCost:
    """Run `step(0)`, ..., `step(length - 1)`, each of which advances `state` in place.

    With `saving`, a checkpoint found at its path is restored first, and the phase goes on from
    there bit for bit. The caller clears it once the result is safe. SIGINT and SIGTERM stop such a
    phase after the step and a checkpoint; one without `saving` has nothing to save and leaves
    signals to whoever called it. Many ranks stop and save after the same step, whichever of them a
    signal came to. `lower` names what to lower where memory runs out.

    Raises:
        KeyboardInterrupt: SIGINT came.
        SystemExit: SIGTERM came; the code is 143.
        NotFiniteError: a metric became NaN or infinite; no checkpoint of that state is written.
        NumericalError: a step could not compute on, nor is its state written.
        MemoryShortError: memory ran out in a step, nor is its state written.
        ResumeError: the checkpoint belongs to another run.
        ConfigError: another process runs this phase in the same folder.
    """
    if (runner := _replacement.get()) is not None:
        return runner(phase, state, step, length)
    run = _Run(phase, _Position(state), step, length, saving, log, lower)
    if saving is None:
        return run.continued(Asked())
    lock = saving.path.with_name(f".{saving.path.stem}.lock")
    with undisturbed(lock, phase) if saving.world.writes else nullcontext():
        with listening() as asked:
            cost = run.continued(asked)
        if asked.stop is not None:  # it came after the last look
            end(asked.stop)
    return cost


@dataclass(frozen=True)
class _Run:
    phase: str
    position: _Position
    step: Callable[[int], Metrics]
    length: int
    saving: Saving | None
    log: MetricsLog | None
    lower: str

    def continued(self, asked: Asked) -> PhaseCost:
        """From the checkpoint, where there is one, to the end."""
        position, saving, log = self.position, self.saving, self.log
        if saving is not None and saving.path.exists():
            checkpoint.read(saving.path, position, saving.identity)
            say(f"{self.phase}: continuing after step {position.step} of {self.length}")
        if saving is not None:
            saving.world.agree(position.step, f"the step that {self.phase} starts from")
        if saving is not None and log is not None:
            log.rewind(position.step)  # killed before its first checkpoint, it may have logged too
        with reporting(self.phase, position.step, self.length) as reporter:
            self._to_the_end(reporter, asked)
        return PhaseCost(position.seconds, peak_memory_bytes())

    def _to_the_end(self, reporter: Reporter, asked: Asked) -> None:
        position, waiting = self.position, list[tuple[int, Metrics]]()
        mark = saved = time.monotonic()
        while position.step < self.length:
            waiting.append((position.step, self._stepped(position.step)))
            position.step += 1
            last = position.step == self.length
            stop, save = self._agreed(asked, saved)
            if last or save or len(waiting) >= FLUSH_STEPS or reporter.due():
                values = self._flush(waiting)
                now = time.monotonic()
                position.seconds, mark = position.seconds + now - mark, now
                if last or reporter.due():
                    reporter.update(position.step, values)
            if save and (stop is not None or not last):
                self._save()
                saved, asked.save = time.monotonic(), False
            if stop is not None:
                say(f"{self.phase}: {stop.name}; saved after step {position.step} of {self.length}")
                end(stop)

    def _stepped(self, number: int) -> Metrics:
        """The metrics of one step; what breaks down in it is told with phase and step."""
        try:
            return self.step(number)
        except NumericalError as error:
            raise type(error)(
                f"{self.phase}, step {number}: {error}. The last checkpoint is unharmed"
            ) from error
        except (MemoryError, RuntimeError) as error:
            if not exhausted(error):
                raise
            said = (str(error).splitlines() or ["MemoryError"])[0]
            raise MemoryShortError(
                f"{self.phase}, step {number}: memory ran out ({said}); lower {self.lower}, or go"
                " on where there is more. The last checkpoint is unharmed"
            ) from error

    def _agreed(self, asked: Asked, saved: float) -> tuple[signal.Signals | None, bool]:
        """(which signal stops the phase now, whether to save): what one rank is asked, all do."""
        if self.saving is None:
            return None, False
        due = asked.save or time.monotonic() - saved >= self.saving.every_seconds
        number, save = self.saving.world.largest([asked.stop or 0, due])
        stop = signal.Signals(number) if number else None
        return stop, bool(save) or stop is not None

    def _save(self) -> None:
        assert self.saving is not None, "nothing is due without it"
        if self.saving.world.writes:
            checkpoint.write(self.saving.path, self.position, self.saving.identity)

    def _flush(self, waiting: list[tuple[int, Metrics]]) -> Mapping[str, float]:
        """Read the waiting metrics, refuse what is not finite, log the rest; return the last."""
        values: dict[str, float] = {}
        for step, metrics in waiting:
            values = {name: _number(value) for name, value in metrics.items()}
            for name, value in values.items():
                if not math.isfinite(value):
                    raise NotFiniteError(
                        f"{self.phase}: {name} is {value} at step {step}; lower the learning rate,"
                        " or look at the images with 'datastill data check'. The last checkpoint is"
                        " unharmed"
                    )
            if self.log is not None:
                self.log.log(step, values)
        waiting.clear()
        return values


def _number(value: Tensor | float | int) -> float:
    number = value.item() if isinstance(value, Tensor) else value
    return int(number) if isinstance(number, int) else float(number)


def peak_memory_bytes() -> int:
    """The largest memory this process has held: of the GPU where one was used, else of the host."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0:
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux kibibytes
