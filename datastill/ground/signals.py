"""Signals that ask a run to stop or to save: the handler only sets a flag, the loop looks at it.

SIGINT and SIGTERM: finish the step, save, stop (exit codes 130 and 143). SIGUSR1: save and go on,
as schedulers ask for some time before they end a job. A second SIGINT does not wait.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

STOPS = (signal.SIGINT, signal.SIGTERM)
SAVES = (signal.SIGUSR1,)
Handler = Callable[[int, FrameType | None], None] | signal.Handlers


@dataclass
class Asked:
    """What signals have asked for so far."""

    stop: signal.Signals | None = None
    save: bool = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """The handler."""
        if number in SAVES:
            self.save = True
            return
        if self.stop is signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.stop = signal.Signals(number)


@contextmanager
def listening() -> Iterator[Asked]:
    """Collect signals while the block runs; the handlers of before are back after it.

    Only the main thread can have handlers; in another one nothing is ever asked for. What is
    ignored stays so: a shell starts jobs in the background with SIGINT ignored.
    """
    asked = Asked()
    stops = [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    with _handled(dict.fromkeys((*stops, *SAVES), asked.note)):
        yield asked


def end(stop: signal.Signals) -> NoReturn:
    """Leave as a program does that this signal ended.

    Raises:
        KeyboardInterrupt: for SIGINT.
        SystemExit: with code 143 for SIGTERM.
    """
    if stop is signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + stop)


@contextmanager
def between_loops() -> Iterator[None]:
    """Where no loop listens: SIGTERM ends the program in order, SIGUSR1 has nothing to save."""
    with _handled({signal.SIGTERM: _terminate, signal.SIGUSR1: signal.SIG_IGN}):
        yield


@contextmanager
def _handled(handlers: Mapping[signal.Signals, Handler]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    end(signal.Signals(number))
