"""Jobs of a grid in processes of their own on this machine: one that dies takes no other along."""

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from queue import SimpleQueue

import torch

from datastill.ground.errors import DatastillError
from datastill.ground.grid import JobError, Submit, Work, describe

SAVE_SECONDS = 60.0  # that a part which is stopped has to finish its step and save
SPAWN = multiprocessing.get_context("spawn")  # a fork would inherit threads, and CUDA not at all


@contextmanager
def processes(work: Work, workers: int) -> Iterator[Submit]:
    """Up to `workers` jobs at once, which share the cores evenly; `work` must be picklable.

    However the block is left, no process is left behind.
    """
    threads = max(1, (os.cpu_count() or 1) // workers)
    idle: SimpleQueue[_Worker] = SimpleQueue()
    for _ in range(workers):
        idle.put(_Worker(work, threads))

    def do(name: str) -> None:
        worker = idle.get()
        if not worker.process.is_alive():
            worker = _Worker(work, threads)
        try:
            worker.do(name)
        finally:
            idle.put(worker)

    pool = ThreadPoolExecutor(workers)
    try:
        yield lambda name: pool.submit(do, name)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        children = multiprocessing.active_children()  # idle ones, or of a grid that was stopped
        for child in children:
            child.terminate()
        for child in children:
            child.join(SAVE_SECONDS)


class _Worker:
    """A process that does one job after the other."""

    def __init__(self, work: Work, threads: int) -> None:
        self.pipe, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=_serve, args=(work, threads, theirs))
        self.process.start()
        theirs.close()  # so that `recv` ends where the process died without a word

    def do(self, name: str) -> None:
        """Have one job done.

        Raises:
            JobError: it failed, or the process died.
        """
        self.pipe.send(name)
        try:
            error: str | None = self.pipe.recv()
        except EOFError:
            self.process.join()
            raise JobError(f"its process died ({_end(self.process.exitcode)})") from None
        if error is not None:
            raise JobError(error)


def _serve(work: Work, threads: int, pipe: Connection) -> None:
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        while True:
            pipe.send(_error_of(work, pipe.recv()))
    except KeyboardInterrupt:  # on a terminal it comes to all; the parent is who speaks of it
        sys.exit(130)


def _error_of(work: Work, name: str) -> str | None:
    try:
        work(name)
    except Exception as error:
        if not isinstance(error, DatastillError):
            traceback.print_exc()
        return describe(error)
    return None


def _die_with_parent() -> None:
    """A killed grid must not write on: when it is continued, another process does that job."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a child calls this"
    parent.join()
    os._exit(1)


def _end(code: int | None) -> str:
    """Such as `exit code 3` or `SIGKILL, perhaps for want of memory`."""
    if code is None or code >= 0:
        return f"exit code {code}"
    died_of = signal.Signals(-code)
    want = ", perhaps for want of memory" if died_of is signal.SIGKILL else ""
    return f"{died_of.name}{want}"
