"""Use the given minutes of a GPU fully: run the parts of a plan, then print one table.

python benchmarks/gpu/run.py PLAN SECONDS [--toy]

Each part is a process with a time limit of its own: it plans its work to fit, one that overruns
gets SIGTERM and then SIGKILL, and one that fails stops no other. After each part its results are
copied to $OUT, which holds at most 8 files of 16 MiB.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass, field
from pathlib import Path

PARTS = Path(__file__).resolve().with_name("parts.py")
MIB = 2**20
MAX_FILE_BYTES, MAX_BYTES, MAX_FILES = 16 * MIB, 64 * MIB, 8  # of the results that are sent back
GRACE_SECONDS = 12.0  # between SIGTERM and SIGKILL, and kept free at the end
SHORTEST_SECONDS = 10.0  # a part with less time than this is left out


@dataclass(frozen=True)
class Share:
    """A part that takes `weight` parts of the time that is left beside the fixed limits."""

    weight: float


# part -> its limit in seconds, or its share of what the others leave
PLANS: dict[str, dict[str, float | Share]] = {
    "check": {"data": 35, "facts": 25, "tests": 100, "speed": Share(1)},
    "paper-rows": {"data": 35, "facts": 25, "paper-rows": Share(1)},
    "science": {
        "data": 35,
        "facts": 25,
        "target": Share(1),
        "distill": Share(1.3),
        "transfer": Share(1.2),
    },
    "first": {
        "data": 35,
        "facts": 25,
        "tests": 60,
        "paper-rows": 110,
        "target": Share(1),
        "distill": Share(1.3),
        "transfer": Share(1.2),
    },
    "equal-bytes": {"data": 35, "target": Share(1), "equal-bytes": Share(1.5)},
}  # fmt: skip


@dataclass
class Run:
    """The parts of a plan, the time that is left for them, and a row of the table for each."""

    plan: str
    deadline: float  # by time.monotonic()
    work: Path
    out: Path
    options: list[str]  # for every part
    rows: list[tuple[str, str, str, str]] = field(default_factory=list)

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    def run(self) -> None:
        parts = list(PLANS[self.plan])
        for number, name in enumerate(parts):
            seconds = self._limit(name, parts[number + 1 :])
            if seconds < SHORTEST_SECONDS:
                self.rows.append(
                    (name, "left out", "0", f"{max(0, seconds):.0f} s were left for it")
                )
            else:
                self._run_part(name, seconds)
            self._copy_results()

    def _limit(self, name: str, later: list[str]) -> float:
        """Return a part's time in seconds: its limit, or its share of what the others leave."""
        limits = PLANS[self.plan]
        limit, available = limits[name], self.seconds_left - GRACE_SECONDS
        if not isinstance(limit, Share):
            return min(limit, available)
        available -= sum(x for x in map(limits.__getitem__, later) if not isinstance(x, Share))
        weights = [x.weight for x in map(limits.__getitem__, later) if isinstance(x, Share)]
        return available * limit.weight / (limit.weight + sum(weights))

    def _run_part(self, name: str, seconds: float) -> None:
        print(f"\n=== {name}: up to {seconds:.0f} s of {self.seconds_left:.0f} s ===", flush=True)
        command = [
            sys.executable,
            str(PARTS),
            name,
            f"{time.time() + seconds - 1.5:.1f}",
            *self.options,
        ]
        started, log = time.monotonic(), self.work / f"{name}.log"
        with log.open("wb") as file:
            # A session of its own: signals reach the processes that it has started, too.
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )
        state = "done"
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(GRACE_SECONDS)
                state = "stopped: out of time"
            except subprocess.TimeoutExpired:
                state = "killed: out of time"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if state == "done" and process.returncode:
            state = f"failed ({process.returncode})"
        lines = log.read_text(errors="replace").splitlines()
        print(*(f"  {line[:160]}" for line in lines[-8:]), sep="\n", flush=True)
        summary = self.work / f"{name}.summary"
        text = summary.read_text().strip().replace("\n", "; ") if summary.exists() else ""
        self.rows.append((name, state, f"{time.monotonic() - started:.0f}", text))

    def _copy_results(self) -> None:
        """Write the table and copy all results so far, within the limits on what is sent back."""
        (self.out / "summary.md").write_text(self.table())
        text_files = [
            f
            for pattern in ("*.log", "*.json", "*.jsonl", "*.txt")
            for f in self.work.rglob(pattern)
        ]
        with tarfile.open(self.out / "results.tar.gz", "w:gz") as tar:
            for file in sorted(text_files):
                tar.add(file, str(file.relative_to(self.work)))
        bytes_left = MAX_BYTES - sum(f.stat().st_size for f in self.out.iterdir())
        for file in sorted(self.work.glob("*/*.safetensors")):
            copy, size = self.out / f"{file.parent.name}-{file.name}", file.stat().st_size
            if copy.exists():
                continue
            if size < min(MAX_FILE_BYTES, bytes_left) and len(list(self.out.iterdir())) < MAX_FILES:
                shutil.copy2(file, copy)
                bytes_left -= size
            else:
                print(
                    f"{copy.name} ({size / MIB:.1f} MiB) is too large to be sent back", flush=True
                )

    def table(self) -> str:
        lines = ["| part | state | s | result |", "|---|---|--:|---|"]
        lines += [f"| {' | '.join(row)} |" for row in self.rows]
        tables = [f.read_text() for f in sorted(self.work.glob("*.table.md"))]
        return "\n\n".join(["\n".join(lines), *tables]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("plan", choices=PLANS)
    parser.add_argument("seconds", type=float)
    parser.add_argument(
        "--toy", action="store_true", help="tiny sizes on the CPU: to try the script"
    )
    arguments = parser.parse_args()
    work, out = Path(os.environ["WORK"]), Path(os.environ["OUT"])
    deadline = time.monotonic() + arguments.seconds
    run = Run(arguments.plan, deadline, work, out, ["--toy"] if arguments.toy else [])
    run.run()
    print(f"\n{run.table()}\n{run.seconds_left:.0f} s left", flush=True)


if __name__ == "__main__":
    main()
