"""Profile one step: a table and a trace by torch's profiler."""

from collections.abc import Callable
from itertools import count
from typing import ParamSpec, TypeVar

from torch.profiler import profile, record_function

from datastill.core.atomic import atomic_write, write_text
from datastill.core.loop import Metrics
from datastill.core.run_folder import RunFolder

PROFILED_STEP = 3  # of a process: the first ones allocate memory and choose kernels
PREFIX = "datastill: "

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def profile_section(
    name: str,
) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Decorate a function as a named part of a step; it costs microseconds without a profiler.

    Parts must not contain each other.
    """
    decorator: Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]
    decorator = record_function(PREFIX + name)
    return decorator


def profiled(step: Callable[[int], Metrics], folder: RunFolder | None) -> Callable[[int], Metrics]:
    """Wrap a step so that its third call is profiled, if the folder was opened for that.

    The folder gets `profile.txt` (a table of parts and operations) and `profile.json` (a trace for
    chrome://tracing and Perfetto).
    """
    if folder is None or not folder.profile or not folder.writes:
        return step
    calls, path = count(1), folder.path

    def profiled_step(number: int) -> Metrics:
        if next(calls) != PROFILED_STEP:
            return step(number)
        with profile(acc_events=True) as profiler, record_function(f"{PREFIX}step {number}"):
            metrics = step(number)
        # By time on the host, which every part and operation takes, also where a GPU does the work.
        table = profiler.key_averages().table(sort_by="cpu_time_total")
        write_text(path / "profile.txt", table)
        with atomic_write(path / "profile.json") as file:
            profiler.export_chrome_trace(str(file))
        return metrics

    return profiled_step
