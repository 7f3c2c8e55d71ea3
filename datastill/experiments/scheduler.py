"""Run stages in the order of their dependencies: here, in subprocesses, or on a Ray cluster.

A stage that fails is named in the result and stops only the stages that depend on it. The three
context managers yield a function that starts a stage by name and returns its future.
"""

import importlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from graphlib import TopologicalSorter
from multiprocessing.connection import Connection

import torch

from datastill.core.errors import ConfigError, DatastillError
from datastill.core.progress import logger

RunStage = Callable[[str], None]  # runs the stage of that name
Submit = Callable[[str], Future[str | None]]  # starts it; the result is its error message
SAVE_SECONDS = 60.0  # that a stopped stage has to finish its step and write a checkpoint
SPAWN = multiprocessing.get_context("spawn")  # a fork would copy threads, and cannot use CUDA


def run_stages(
    depends_on: Mapping[str, tuple[str, ...]], submit: Submit, *, at_once: float = 1
) -> dict[str, str]:
    """Run all stages, each after those that it depends on.

    Args:
        depends_on: For each stage the stages whose results it reads.
        submit: Starts a stage, as the context managers below yield it.
        at_once: Largest number of stages that run at the same time.

    Returns:
        The error message of each stage that failed, by name.
    """
    sorter = TopologicalSorter(depends_on)
    sorter.prepare()
    ready, running, failed = deque[str](), dict[Future[str | None], str](), dict[str, str]()
    number = 0
    while sorter.is_active():
        ready.extend(sorter.get_ready())
        while ready and len(running) < at_once:
            name, number = ready.popleft(), number + 1
            if missing := [needed for needed in depends_on[name] if needed in failed]:
                failed[name] = f"needs {missing[0]}, which failed"
                sorter.done(name)
            else:
                logger.info(f"stage {number} of {len(depends_on)}: {name}")
                running[submit(name)] = name
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            name = running.pop(future)
            error = future.exception()  # of Ray itself, such as a worker that died
            message = future.result() if error is None else error_message(error)
            if message is not None:
                failed[name] = message
                logger.info(f"{name} failed: {message}")
            sorter.done(name)
    return failed


def error_message(error: BaseException) -> str:
    """Return the message of an error; that of an unexpected one starts with its class."""
    return str(error) if isinstance(error, DatastillError) else f"{type(error).__name__}: {error}"


def attempt(run_stage: RunStage, name: str, level: int) -> str | None:
    """Run a stage; return its error message, or None; print the traceback of a bug.

    Args:
        run_stage: Runs the stage of a name.
        name: Name of the stage.
        level: Log level of the process that starts the stages (--quiet, --verbose).
    """
    logger.setLevel(level)
    try:
        run_stage(name)
    except Exception as error:  # of any kind: the other stages go on
        if not isinstance(error, DatastillError):
            traceback.print_exc()
        return error_message(error)
    return None


@contextmanager
def in_this_process(run_stage: RunStage) -> Iterator[Submit]:
    """Run each stage before `submit` returns."""

    def submit(name: str) -> Future[str | None]:
        future: Future[str | None] = Future()
        future.set_result(attempt(run_stage, name, logger.level))
        return future

    yield submit


@contextmanager
def in_subprocesses(run_stage: RunStage, workers: int) -> Iterator[Submit]:
    """Run up to `workers` stages at once, each in a new process with its share of the cores.

    Args:
        run_stage: Must be picklable.
        workers: Largest number of processes. All of them are ended when the block is left.
    """
    threads = max(1, (os.cpu_count() or 1) // workers)
    pool = ThreadPoolExecutor(workers)
    try:
        yield lambda name: pool.submit(_run_subprocess, run_stage, name, threads)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        children = multiprocessing.active_children()  # of a run that was stopped
        for child in children:
            child.terminate()
        for child in children:
            child.join(SAVE_SECONDS)


def _run_subprocess(run_stage: RunStage, name: str, threads: int) -> str | None:
    """Run a stage in a new process; return its error message, or None."""
    receiver, sender = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(
        target=_subprocess_main, args=(run_stage, name, threads, logger.level, sender)
    )
    process.start()
    sender.close()  # so that `recv` ends when the process dies without sending a result
    try:
        message: str | None = receiver.recv()
    except EOFError:
        process.join()
        return f"its process died ({_exit_reason(process.exitcode)})"
    process.join()
    return message


def _subprocess_main(
    run_stage: RunStage, name: str, threads: int, level: int, sender: Connection
) -> None:
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        sender.send(attempt(run_stage, name, level))
    except KeyboardInterrupt:  # Ctrl-C reaches all processes; the parent reports it
        sys.exit(130)


def _exit_with_parent() -> None:
    """Exit when the parent was killed: a resumed run starts this stage again."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a child process calls this"
    parent.join()
    os._exit(1)


def _exit_reason(exit_code: int | None) -> str:
    """Return a text such as `exit code 3` or `SIGKILL, perhaps because memory ran out`."""
    if exit_code is None or exit_code >= 0:
        return f"exit code {exit_code}"
    killed_by = signal.Signals(-exit_code)
    return killed_by.name + ", perhaps because memory ran out" * (killed_by is signal.SIGKILL)


@contextmanager
def on_ray(run_stage: RunStage, address: str, *, gpus: int) -> Iterator[Submit]:
    """Run each stage in a Ray worker with one core; all machines must see the run folder.

    Args:
        run_stage: Must be picklable.
        address: Of a cluster; "local" starts one on this machine.
        gpus: GPUs per stage.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster at the address.
    """
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(
            "--ray needs Ray; install it with pip install 'datastill[ray]'"
        ) from error
    try:
        ray.init(address=address, include_dashboard=False, logging_level=logging.WARNING)
    except (ConnectionError, ValueError) as error:
        raise ConfigError(f"--ray {address}: no cluster there ({error})") from error
    remote = ray.remote(max_retries=0, num_cpus=1, num_gpus=gpus)(attempt)

    try:
        yield lambda name: remote.remote(run_stage, name, logger.level).future()
    finally:
        ray.shutdown()
