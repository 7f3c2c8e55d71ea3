"""Contestants that take turns in one run, so that a noisy machine is noisy for all of them."""

import csv
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from datastill.core.run_folder import environment

Contestant = Callable[[], object]


@dataclass(frozen=True)
class Race:
    """Seconds of each contestant in each round; the first contestant is what is compared with."""

    seconds: Mapping[str, list[float]]

    @staticmethod
    def run(contestants: Mapping[str, Contestant], rounds: int) -> "Race":
        """One turn each that does not count, then `rounds` turns, in changing order."""
        names = list(contestants)
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for round_ in range(rounds + 1):
            first = round_ % len(names)
            for name in names[first:] + names[:first]:
                taken = timed(contestants[name])
                if round_:
                    seconds[name].append(taken)
        return Race(seconds)

    def ratios(self, name: str) -> list[float]:
        """How many times faster than the first contestant, round by round."""
        first = next(iter(self.seconds.values()))
        return [one / other for one, other in zip(first, self.seconds[name], strict=True)]

    @staticmethod
    def read(file: Path, case: Mapping[str, object]) -> "Race":
        """What `append_to` wrote for a case; empty where there is none."""
        seconds: dict[str, list[float]] = {}
        with file.open(newline="") as opened:
            for row in csv.DictReader(opened):
                if all(row[name] == str(value) for name, value in case.items()):
                    seconds.setdefault(row["contestant"], []).append(float(row["seconds"]))
        return Race(seconds)

    def without(self, name: str) -> "Race":
        """The others alone; the next one is then what is compared with."""
        return Race({other: turns for other, turns in self.seconds.items() if other != name})

    def append_to(self, file: Path, case: Mapping[str, object]) -> None:
        """Add one line per contestant and round to a CSV file."""
        new = not file.exists()
        with file.open("a", newline="") as opened:
            table = csv.writer(opened)
            if new:
                table.writerow([*case, "contestant", "round", "seconds", "ratio", "processor"])
            processor = environment()["processor"]
            for name, turns in self.seconds.items():
                for round_, (taken, ratio) in enumerate(zip(turns, self.ratios(name), strict=True)):
                    numbers = f"{taken:.6g}", f"{ratio:.4g}"
                    table.writerow([*case.values(), name, round_, *numbers, processor])

    def lines(self) -> list[str]:
        """A row of a Markdown table per contestant."""
        rows = [
            "| contestant | seconds, median | times faster, median (least to most) |",
            "|---|--:|--:|",
        ]
        for name, turns in self.seconds.items():
            ratios = self.ratios(name)
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            rows.append(f"| {name} | {statistics.median(turns):.4g} | {spread} |")
        return rows


def timed(run: Contestant) -> float:
    """Seconds of one turn, until the device has nothing left to do."""
    wait()
    started = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - started


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_megabytes() -> float:
    """The most memory that this process has held, of the GPU where one was used."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
