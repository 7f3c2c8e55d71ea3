"""Profile one step: a table and a trace by torch's profiler."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import ParamSpec, TypeVar

from torch.autograd.profiler_util import FunctionEventAvg
from torch.profiler import profile, record_function

from datastill.core.atomic import atomic_write, write_text
from datastill.core.loop import Metrics
from datastill.core.run_folder import RunFolder

PROFILED_STEP = 3  # of a process: the first ones allocate memory and choose kernels
PREFIX = "datastill: "
STEP = PREFIX + "step"
TABLE_ROWS = 25

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

    The folder gets `profile.txt` (seconds of each part, then of operations) and `profile.json` (a
    trace for chrome://tracing and Perfetto).
    """
    if folder is None or not folder.profile or not folder.writes:
        return step
    calls, path = count(1), folder.path

    def profiled_step(number: int) -> Metrics:
        if next(calls) != PROFILED_STEP:
            return step(number)
        with profile(acc_events=True) as profiler, record_function(STEP):
            metrics = step(number)
        _write(profiler, number, path)
        return metrics

    return profiled_step


def _write(profiler: profile, number: int, folder: Path) -> None:
    operations = profiler.key_averages()
    seconds = {x.key: _seconds(x) for x in operations if x.key.startswith(PREFIX)}
    total = seconds.pop(STEP)
    seconds["the rest"] = total - sum(seconds.values())
    lines = [f"step {number}: {total:.4f} s, with the time of the profiler itself", ""]
    lines += [
        f"{name.removeprefix(PREFIX):34s} {part:10.4f} s {100 * part / total:5.1f} %"
        for name, part in seconds.items()
    ]
    table = operations.table(sort_by="self_cpu_time_total", row_limit=TABLE_ROWS)
    write_text(folder / "profile.txt", "\n".join([*lines, "", table]))
    with atomic_write(folder / "profile.json") as file:
        profiler.export_chrome_trace(str(file))


def _seconds(event: FunctionEventAvg) -> float:
    """Seconds on the device, or on the host where the device did no work."""
    return (event.device_time_total or event.cpu_time_total) / 1e6
