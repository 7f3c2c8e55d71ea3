"""Log lines and progress bars on stderr: `logging` for the lines, `rich` for bars on a terminal.

Both go through the logger "datastill". A stderr that can no longer be written (a closed terminal, a
pipe whose reader has gone, a full disk) never ends a run: what cannot be shown is dropped.
"""

import functools
import io
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Column

Verbosity = Literal["quiet", "normal", "verbose"]

BAR_SECONDS = 0.2
FIRST_LINE_SECONDS = 1.0  # where there is no terminal
SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.5, 60.0  # between further lines

logger = logging.getLogger("datastill")


def set_verbosity(verbosity: Verbosity) -> None:
    """Choose what datastill shows on stderr.

    Args:
        verbosity: "quiet" shows warnings and errors only; "normal" also progress and what is done;
            "verbose" also details, each line with its time.

    Example:
        >>> set_verbosity("quiet")
        >>> logger.info("reading glyphs")
        >>> set_verbosity("normal")
    """
    levels = {"quiet": logging.WARNING, "normal": logging.INFO, "verbose": logging.DEBUG}
    line = "%(asctime)s %(message)s" if verbosity == "verbose" else "%(message)s"
    logger.setLevel(levels[verbosity])
    for handler in logger.handlers:
        handler.setFormatter(logging.Formatter(line))


def duration(seconds: float) -> str:
    """Format a time, such as 90 s, 35 min, 5.2 h or 12 days."""
    if seconds < 7200:
        return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"


class ProgressBar:
    """Show how far a phase is, also while one step takes long; make one with `progress_bar`."""

    def __init__(
        self, phase: str, first: int, length: int, unit: str, bar: Progress | None
    ) -> None:
        self._phase, self._first, self._length = phase, first, length
        self._unit = f" {unit}" if unit else ""
        self._done, self._numbers = first, "starting"
        self._bar = bar
        self._task = bar.add_task(phase, total=length, unit=self._unit, numbers="") if bar else None
        self._started = self._shown = self._updated = time.monotonic()
        self._pause = BAR_SECONDS if bar else FIRST_LINE_SECONDS
        if bar:
            self._show()

    def due(self) -> bool:
        """Return whether to call `update` now: reading a metric may wait for the device."""
        return time.monotonic() - self._updated > self._pause  # reminders in between do not count

    def update(self, done: int, values: Mapping[str, float]) -> None:
        """Show that `done` steps are done, with the values of the last one."""
        self._updated = time.monotonic()
        rate = (done - self._first) / max(self._updated - self._started, 1e-9)
        numbers = (f"{name} {value:.4g}" for name, value in values.items())
        self._done, self._numbers = done, "  ".join([f"{rate:.1f}{self._unit}/s", *numbers])
        self._show()

    def remind_until(self, finished: threading.Event) -> None:
        """Repeat the last line whenever a step takes longer than the pause between lines."""
        while not finished.wait(BAR_SECONDS):
            if time.monotonic() - self._shown > self._pause + BAR_SECONDS:
                self._show()

    def _show(self) -> None:
        self._shown = now = time.monotonic()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done, numbers=self._numbers)
            return
        passed, done = now - self._started, self._done - self._first
        # A log of many hours has no need of a line every two seconds.
        self._pause = min(max(SHORTEST_PAUSE_SECONDS, passed / 10), LONGEST_PAUSE_SECONDS)
        left = duration(passed / done * (self._length - self._done)) if done else "unknown time"
        logger.info(
            f"{self._phase} {self._done}/{self._length}{self._unit}  {self._numbers}  {left} left"
        )


@contextmanager
def progress_bar(phase: str, first: int, length: int, unit: str = "") -> Iterator[ProgressBar]:
    """Show the progress of one phase: a bar on a terminal, lines elsewhere.

    Args:
        phase: Its name, such as "distill".
        first: How many of its steps were done before.
        length: How many steps it has.
        unit: What is counted, in the plural, such as "images".
    """
    if _STDERR.isatty() and logger.isEnabledFor(logging.INFO):
        columns = (
            SpinnerColumn(),
            TextColumn(
                "{task.description} {task.completed}/{task.total}{task.fields[unit]}", markup=False
            ),
            BarColumn(bar_width=20),
            TimeRemainingColumn(),
            # What a narrow terminal has no room for:
            TextColumn(
                "{task.fields[numbers]}", markup=False, table_column=Column(ratio=1, no_wrap=True)
            ),
        )
        options: dict[str, Any] = {"transient": True, "redirect_stdout": False, "expand": True}
        with Progress(*columns, console=_console(), **options) as bar:
            yield ProgressBar(phase, first, length, unit, bar)
        return
    reporter, finished = ProgressBar(phase, first, length, unit, None), threading.Event()
    reminder = threading.Thread(target=reporter.remind_until, args=(finished,), daemon=True)
    reminder.start()
    try:
        yield reporter
    finally:
        finished.set()
        reminder.join()


class _Stderr:
    """The stderr of this moment, without the errors of writing to it."""

    def write(self, text: str) -> int:
        try:
            self._stream().write(text)
        except OSError:  # from now on, and at the end of the interpreter, write to nowhere
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
        except (ValueError, RuntimeError):  # closed, or a signal came while it was written to
            pass
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError, RuntimeError):
            self._stream().flush()

    def isatty(self) -> bool:
        return bool(self._stream().isatty())

    def _stream(self) -> Any:
        return sys.stderr or io.StringIO()  # a process may have been started without one


class _StderrBelowBar(_Stderr):
    """The stderr behind the proxy of rich, which shows other lines above the bar."""

    def _stream(self) -> Any:
        return getattr(super()._stream(), "rich_proxied_file", super()._stream())


@functools.cache
def _console() -> Console:
    return Console(file=_StderrBelowBar())  # type: ignore[arg-type]


_STDERR = _Stderr()
logger.addHandler(logging.StreamHandler(_STDERR))
logger.propagate = False  # a root handler, of other libraries, would show each line twice
set_verbosity("normal")
