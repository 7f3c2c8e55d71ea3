"""How long a user waits: for help, a list, and the first lines of a run.

python benchmarks/speed/startup.py --rounds 5 --out startup.csv

Compared with what no program on PyTorch can avoid, its import; processes start in turns.
"""

import argparse
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch
from interleaved import Contestant, Race

DATASTILL = [sys.executable, "-m", "datastill"]


def run_to_end(*command: str) -> Contestant:
    """Run a process to its end."""
    return lambda: subprocess.run(command, check=True, capture_output=True)


def until(start: str) -> None:
    """`datastill run quick` until it says a line that starts so; then it is killed."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*DATASTILL, "run", "quick", "--out", f"{folder}/quick"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if line.startswith(start):
                    break
            process.kill()


CONTESTANTS: dict[str, Contestant] = {
    "import torch": run_to_end(sys.executable, "-c", "import torch"),
    "datastill --help": run_to_end(*DATASTILL, "--help"),
    "datastill distill --help": run_to_end(*DATASTILL, "distill", "--help"),
    "datastill list methods": run_to_end(*DATASTILL, "list", "methods"),
    "import datastill": run_to_end(sys.executable, "-c", "import datastill"),
    "run quick: first line": partial(until, ""),
    "run quick: first line of training": partial(until, "target "),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    race = Race.run(CONTESTANTS, arguments.rounds)
    if arguments.out:
        race.append_to(arguments.out, {"threads": torch.get_num_threads()})
    print(*race.lines(), sep="\n")


if __name__ == "__main__":
    main()
