"""Measure how much time, memory and disk a recipe will need on this machine."""

import contextlib
import io
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from datastill.cli.common import DEVICE, chosen
from datastill.cli.parser import CommandParser
from datastill.ground.machine import Machine
from datastill.ground.options import Json, option
from datastill.ground.progress import say
from datastill.recipes._base import named
from datastill.recipes._estimate import Estimate, Estimator, PartEstimate
from datastill.recipes._meter import Meter
from datastill.recipes._scale import Scale

GIB, MIB, TERA = 2**30, 2**20, 1e12
HEADER = ("parts", "", "time", "memory", "disk", "TFLOP")


@dataclass(frozen=True)
class EstimateFlags:
    """Flags of `datastill estimate`."""

    scale: Scale = option("full", "smoke, small or full, as for 'datastill run'")
    device: str = option("auto", DEVICE)
    workers: int = option(1, "parts that run side by side and share the cores", at_least=1)
    count_only: bool = option(False, "count operations and bytes only, for a busy machine")


def make_parser(arguments: Sequence[str]) -> CommandParser:
    """Return the parser of the command."""
    parser = CommandParser(
        "estimate", arguments, __doc__, "datastill estimate quick", required=("recipe",)
    )
    parser.add_positional("recipe", "name of a recipe")
    parser.add_options(EstimateFlags)
    return parser


def run(config: Json) -> None:
    """Print a line per group of equal parts, the totals, and what was measured."""
    flags = chosen(EstimateFlags, config)
    recipe = named(config["recipe"], flags.scale)
    machine = Machine.find(flags.device, recipe.precision)
    torch.set_num_threads(max(1, torch.get_num_threads() // flags.workers))
    say(f"measuring {recipe.name} on {machine.device}; nothing is written")
    started = time.monotonic()
    meter = Meter(machine, clock=None) if flags.count_only else Meter(machine)
    with contextlib.redirect_stderr(io.StringIO()):  # progress of pieces that are only measured
        found = Estimator(recipe, machine, meter).estimate()
    print(f"{recipe.name}, scale {recipe.scale}")
    print(table(found, timed=not flags.count_only))
    print(totals(found, 0 if flags.count_only else flags.workers))
    if flags.count_only:
        return
    print(
        f"Measured for {time.monotonic() - started:.0f} s on {_device(machine)} in"
        f" {machine.precision}: each phase by its own code on a few made images, then extrapolated"
        " to its sizes and steps. Operations are counted; times are rough (a factor of two, more on"
        " a busy machine), and reading data sets and writing files are not in them."
    )
    if recipe.scale == "smoke":
        print("The smoke scale shows that all works; its time says nothing of the full scale.")


def table(found: Estimate, *, timed: bool = True) -> str:
    """Aligned columns, one line per group of parts that differ in their numbers alone."""
    lines = [HEADER, *(_line(name, parts) for name, parts in found.grouped().items())]
    if not timed:
        lines = [line[: HEADER.index("time")] + line[HEADER.index("time") + 1 :] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    )


def _line(name: str, parts: list[PartEstimate]) -> tuple[str, ...]:
    return (
        name,
        f"x{len(parts)}" if len(parts) > 1 else "",
        duration(sum(part.cost.seconds for part in parts)),
        f"{max(part.memory for part in parts) / GIB:.1f} GiB",
        f"{sum(part.disk for part in parts) / MIB:.0f} MiB",
        f"{sum(part.cost.flop for part in parts) / TERA:.3g}",
    )


def totals(found: Estimate, workers: int) -> str:
    """Time, memory and disk of the whole; without workers no time."""
    flop = sum(part.cost.flop for part in found.parts) / TERA
    memory = max(part.memory for part in found.parts)
    disk = sum(part.disk for part in found.parts)
    times = [f"{duration(found.seconds(1))} one after the other"] if workers else []
    if workers > 1:
        times.append(f"{duration(found.seconds(workers))} with {workers} workers")
    return (
        f"{len(found.parts)} lots of work: {'; '.join([*times, f'{flop:.4g} TFLOP'])}\n"
        f"memory at most {memory / GIB:.1f} GiB{' per worker' * (workers > 1)}; disk"
        f" {disk / GIB:.2f} GiB, and {found.prepared / GIB:.1f} GiB for prepared data sets"
    )


def duration(seconds: float) -> str:
    """Such as 90 s, 35 min, 5.2 h or 12 days."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"


def _device(machine: Machine) -> str:
    if machine.device.startswith("cuda"):
        return torch.cuda.get_device_name(machine.device)
    return f"{torch.get_num_threads()} of {os.cpu_count()} CPU cores"
