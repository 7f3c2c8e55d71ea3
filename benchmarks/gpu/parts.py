"""The parts of a plan (run.py). Each is a process that plans its work to end at a given time.

python benchmarks/gpu/parts.py PART UNTIL [--toy]        UNTIL: seconds since 1970

A part writes `PART.summary` (its cell in the table), JSON files and tables into $WORK as it goes.
"""

import argparse
import os
import subprocess
import sys
import warnings
from pathlib import Path

from part import Part, real_sizes, toy_sizes
from science import distill, equal_bytes, paper_rows, target, transfer
from timing import facts, speed

from datastill.core.errors import SubsetWarning
from datastill.core.run_folder import environment

PACKS = {"cifar100_q95": "cifar100", "cifar10_q95": "cifar10", "cub100_32_lossless": "cub"}


def data(part: Part) -> None:
    """Unpack the images that were sent and read them once, so that they are in the cache."""
    packed = Path(os.environ["PACKED"]) / "data"
    packs = [pack for pack in PACKS if (packed / f"{pack}.zip").exists()]
    command = [sys.executable, str(packed / "unpack.py")]
    root = part.work / "data"
    jobs = [subprocess.Popen([*command, pack, str(root), "--official"]) for pack in packs]
    for pack, job in zip(packs, jobs, strict=True):
        if job.wait():
            raise RuntimeError(f"{pack}.zip cannot be unpacked")
    names = [PACKS[pack] for pack in packs] or ["glyphs", "digits"]
    part.write_json("names.json", names)
    part.write_json("environment.json", environment())
    sizes = [f"{n} {len(part.load(n, 'train'))}/{len(part.load(n, 'test'))}" for n in names]
    part.summarize(", ".join(sizes))


def tests(part: Part) -> None:
    """Run the tests that compare the GPU with the CPU."""
    options = ["-rfEs", "--maxfail=15", "--tb=short", "--durations=5", "-p", "no:cacheprovider"]
    log = part.work / "test_cuda.txt"
    with log.open("w") as file:
        subprocess.run(
            [sys.executable, "-m", "pytest", "tests/test_cuda.py", *options],
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    lines = log.read_text().splitlines() or ["no output"]
    failures = [line[:120] for line in lines if line.startswith(("FAILED", "ERROR"))]
    part.summarize("; ".join([*failures[:6], lines[-1]]))


PARTS = {
    "data": data,
    "facts": facts,
    "tests": tests,
    "speed": speed,
    "paper-rows": paper_rows,
    "target": target,
    "distill": distill,
    "transfer": transfer,
    "equal-bytes": equal_bytes,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("until", type=float)
    parser.add_argument("--toy", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", SubsetWarning)
    sizes = toy_sizes() if arguments.toy else real_sizes()
    part = Part(arguments.part, arguments.until, sizes, Path(os.environ["WORK"]))
    PARTS[arguments.part](part)


if __name__ == "__main__":
    main()
