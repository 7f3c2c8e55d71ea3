"""How an outer step grows with M, the real batch, the image size and the cores.

python benchmarks/speed/scaling.py --out scaling.csv [--rounds 3]

One of the four is varied at a time, the others stay at M = 100, batch 128, 32 pixels and all
cores. Each point is a run of outer_step.py in a separate process.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

STANDARD = {"count": 100, "batch": 128, "size": 32, "threads": os.cpu_count() or 1}
VARIED = {
    "count": (10, 30, 100, 300),
    "batch": (32, 128, 512),
    "size": (32, 64),
    "threads": (1, 2, 4, 8, 16),
}
SCRIPT = Path(__file__).with_name("outer_step.py")


def points() -> Iterator[dict[str, int]]:
    """Every setting once, the standard one first."""
    yield STANDARD
    for name, values in VARIED.items():
        for value in values:
            if value != STANDARD[name] and not (name == "threads" and value > STANDARD[name]):
                yield STANDARD | {name: value}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for point in points():
        threads = str(point["threads"])
        print(point, flush=True)
        command = [
            sys.executable,
            str(SCRIPT),
            "--rounds",
            str(arguments.rounds),
            "--out",
            arguments.out,
        ]
        for name in ("count", "batch", "size"):
            command += [f"--{name}", str(point[name])]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": threads})


if __name__ == "__main__":
    main()
