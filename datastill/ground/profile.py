"""Where the time of a step goes: one step under torch's profiler, as a table and as a trace."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import ParamSpec, TypeVar

from torch.autograd.profiler_util import FunctionEventAvg
from torch.profiler import profile, record_function

from datastill.ground.atomic import whole_file, write_text
from datastill.ground.loop import Metrics
from datastill.ground.run_folder import RunFolder

TURN = 3  # which step of a process is profiled: the first ones allocate and choose kernels
PREFIX = "datastill: "
WHOLE = PREFIX + "step"
OPERATIONS = 25  # rows of the table

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def part_of_step(name: str) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Name a function as a part of a step; it costs some microseconds where nothing is profiled.

    Parts must not contain each other.
    """
    named: Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]
    named = record_function(PREFIX + name)
    return named


def profiled(step: Callable[[int], Metrics], folder: RunFolder | None) -> Callable[[int], Metrics]:
    """The same steps; the third one of this process is profiled where the folder asks for it.

    Into the folder go `profile.txt` (seconds of each part, then of operations) and `profile.json`
    (a trace that chrome://tracing and Perfetto show).
    """
    if folder is None or not folder.profile or not folder.writes:
        return step
    turns, place = count(1), folder.path

    def stepped(number: int) -> Metrics:
        if next(turns) != TURN:
            return step(number)
        with profile(acc_events=True) as seen, record_function(WHOLE):
            metrics = step(number)
        _write(seen, number, place)
        return metrics

    return stepped


def _write(seen: profile, number: int, place: Path) -> None:
    operations = seen.key_averages()
    seconds = {x.key: _seconds(x) for x in operations if x.key.startswith(PREFIX)}
    whole = seconds.pop(WHOLE)
    seconds["the rest"] = whole - sum(seconds.values())
    rows = [f"step {number}: {whole:.4f} s, the profiler's own time included", ""]
    rows += [
        f"{name.removeprefix(PREFIX):34s} {taken:10.4f} s {100 * taken / whole:5.1f} %"
        for name, taken in seconds.items()
    ]
    table = operations.table(sort_by="self_cpu_time_total", row_limit=OPERATIONS)
    write_text(place / "profile.txt", "\n".join([*rows, "", table]))
    with whole_file(place / "profile.json") as file:
        seen.export_chrome_trace(str(file))


def _seconds(event: FunctionEventAvg) -> float:
    """Of the device, where it did any work."""
    return (event.device_time_total or event.cpu_time_total) / 1e6
