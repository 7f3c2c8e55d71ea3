"""Whether an outer step became slower than a record of the same machine says, by ratio.

python benchmarks/speed/regression.py [--record FILE.csv] [--rounds 5]

The plain step is what all others are compared with, in the record and now. Exit code 1 where the
median of a contestant is below the least of its recorded ratios: noise alone seldom goes so far.
"""

import argparse
import statistics
import sys
from pathlib import Path

import torch
from interleaved import Race
from outer_step import RELEASED, add_case, contestants

from datastill.core.run_folder import environment

RECORD = Path(__file__).parents[1] / "records" / "2026-11-23-speed-2core" / "outer_step.csv"


def verdicts(recorded: Race, now: Race) -> dict[str, bool]:
    """Whether each contestant is as fast as recorded."""
    return {
        name: statistics.median(now.ratios(name)) >= min(recorded.ratios(name))
        for name in now.seconds
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add_case(parser)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--record", type=Path, default=RECORD)
    arguments = parser.parse_args()
    case = {"count": arguments.count, "batch": arguments.batch, "size": arguments.size}
    machine = {"threads": torch.get_num_threads(), "processor": environment()["processor"]}
    recorded = Race.read(arguments.record, case | machine).without(RELEASED)
    if not recorded.seconds:
        sys.exit(f"{arguments.record} has nothing of {case | machine}; record it by outer_step.py")
    now = Race.run(contestants(arguments), arguments.rounds)
    print("recorded", *recorded.lines(), "", "now", *now.lines(), "", sep="\n")
    slower = [name for name, as_fast in verdicts(recorded, now).items() if not as_fast]
    print(f"slower than recorded: {', '.join(slower) or 'none'}")
    sys.exit(1 if slower else 0)


if __name__ == "__main__":
    main()
