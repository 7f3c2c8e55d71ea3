"""Progress: a bar on a terminal, one plain line every few seconds in a log; always on stderr."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

FIRST_LINE_SECONDS = 1.0  # whoever waits sees soon that it runs, and how long it will
LINE_SECONDS = 10.0
BAR_SECONDS = 0.2


class Reporter:
    """Shows how far a phase is; `update` is cheap enough to be called at every step."""

    def __init__(self, phase: str, first: int, length: int, bar: Progress | None) -> None:
        self._phase, self._first, self._length = phase, first, length
        self._bar = bar
        self._task = bar.add_task(phase, total=length, completed=first, numbers="") if bar else None
        self._started = self._shown = time.monotonic()
        self._pause = BAR_SECONDS if bar else min(FIRST_LINE_SECONDS, LINE_SECONDS)

    def due(self) -> bool:
        """Whether it is time to show something: reading a metric may wait for the device."""
        return time.monotonic() - self._shown > self._pause

    def update(self, done: int, values: Mapping[str, float]) -> None:
        """Show that `done` steps are done, with the values of the last one."""
        self._shown = now = time.monotonic()
        rate = (done - self._first) / max(now - self._started, 1e-9)
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        text = f"{rate:.1f}/s  {numbers}"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, numbers=text)
            return
        self._pause = LINE_SECONDS
        left = (self._length - done) / max(rate, 1e-9)
        say(f"{self._phase} {done}/{self._length}  {text}  {_duration(left)} left")


def _duration(seconds: float) -> str:
    """Such as 90 s, 35 min or 5.2 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


@contextmanager
def reporting(phase: str, first: int, length: int) -> Iterator[Reporter]:
    """A reporter for one phase: a rich bar on a terminal, plain lines elsewhere."""
    if not sys.stderr.isatty():
        yield Reporter(phase, first, length, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[numbers]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield Reporter(phase, first, length, bar)


def say(text: str) -> None:
    """One plain line to the person who waits (stderr, so that results on stdout stay clean)."""
    print(text, file=sys.stderr, flush=True)
