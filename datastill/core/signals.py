"""Signals that stop a run or save it: a handler only sets a flag, which the loop reads.

SIGINT (Ctrl-C), SIGTERM and SIGHUP stop after the current step, with a checkpoint where the phase
writes any; a second SIGINT stops at once. SIGUSR1, which schedulers can send some time before they
end a job, saves a checkpoint and goes on.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from datastill.core.progress import logger

# Windows lacks some of them.
STOP_SIGNALS = [signal.Signals[n] for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
SAVE_SIGNALS = [signal.Signals[n] for n in ("SIGUSR1",) if hasattr(signal, n)]
Handler = Callable[[int, FrameType | None], None] | signal.Handlers


@dataclass
class SignalState:
    """The signals received so far.

    Attributes:
        shared: Whether many ranks decide together when to stop, so that none may do so alone.
        stop: The signal that stops the loop, if one was received.
        save: Whether a signal for a checkpoint was received.
    """

    shared: bool = False
    stop: signal.Signals | None = None
    save: bool = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Record a signal; raise KeyboardInterrupt for a second SIGINT."""
        if number in SAVE_SIGNALS:
            self.save = True
            return
        if self.stop is signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.stop = signal.Signals(number)
        again = "; press Ctrl-C again to stop now" if number == signal.SIGINT else ""
        logger.info(f"{self.stop.name}: stopping after this step{again}")


_captured: ContextVar[SignalState | None] = ContextVar("captured", default=None)


def stop_of_outer_loop() -> signal.Signals | None:
    """Return the signal that stops the loop around this code, if this process may stop alone."""
    state = _captured.get()
    return None if state is None or state.shared else state.stop


@contextmanager
def capture_signals(*, shared: bool = False) -> Iterator[SignalState]:
    """Collect signals while the block runs; restore the previous handlers after it.

    Only the main thread can have handlers; in another one no signal is recorded. A signal that is
    ignored stays ignored: a shell starts jobs in the background with SIGINT ignored.
    """
    state = SignalState(shared)
    stops = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    token = _captured.set(state)
    try:
        with _handlers(dict.fromkeys((*stops, *SAVE_SIGNALS), state.handle)):
            yield state
    finally:
        _captured.reset(token)


def exit_for_signal(stop: signal.Signals) -> NoReturn:
    """Leave the program as the default handler of this signal would.

    Raises:
        KeyboardInterrupt: For SIGINT.
        SystemExit: For others; the code is 128 and the signal's number, such as 143 for SIGTERM.
    """
    if stop is signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + stop)


@contextmanager
def default_signal_handlers() -> Iterator[None]:
    """Handle signals outside of loops: SIGTERM exits with code 143, SIGUSR1 does nothing."""

    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        exit_for_signal(signal.Signals(number))

    with _handlers({signal.SIGTERM: terminate, **dict.fromkeys(SAVE_SIGNALS, signal.SIG_IGN)}):
        yield


@contextmanager
def _handlers(handlers: Mapping[signal.Signals, Handler]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)
