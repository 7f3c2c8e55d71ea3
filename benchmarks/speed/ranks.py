"""From one process to two: seconds of an outer step of KRR-ST, one thread each; runs by turns.

python benchmarks/speed/ranks.py --count 100 --batch 128 --rounds 3 --out speed-ranks.csv
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch.distributed as dist
from interleaved import Race
from outer_step import problem, started
from torch import Tensor

import datastill as ds
from datastill.core.machine import Machine
from datastill.core.ranks import init_ranks

STEPS = 4


def one_rank(count: int, batch: int) -> None:
    """Print the median seconds of a step and the bytes that this rank has sent in one."""
    method = ds.KRRST(outer_batch=batch)
    with init_ranks() as ranks:
        of = problem(32, count, Machine(ranks=ranks))
        state, seconds = started(method, of), []
        method.step(of, state)
        sent, reduce = [], dist.all_reduce

        def counted(message: Tensor, *operation: dist.ReduceOp.RedOpType) -> None:
            sent.append(message.numel() * message.element_size())
            reduce(message, *operation)

        dist.all_reduce = counted
        for _ in range(STEPS):
            begun = time.perf_counter()
            method.step(of, state)
            seconds.append(time.perf_counter() - begun)
        if ranks.is_main:
            print(statistics.median(seconds), sum(sent) // STEPS)


def timed(ranks: int, count: int, batch: int) -> tuple[float, int]:
    """The same, of a run with so many ranks."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    arguments = [__file__, "--rank", "--count", str(count), "--batch", str(batch)]
    done = subprocess.run(
        [sys.executable, *torchrun, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    seconds, sent = done.stdout.split()
    return float(seconds), int(sent)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rank", action="store_true", help="be one of the ranks")
    arguments = parser.parse_args()
    if arguments.rank:
        one_rank(arguments.count, arguments.batch)
        return
    seconds: dict[str, list[float]] = {"one process": [], "two processes": []}
    for _ in range(arguments.rounds):
        for ranks, turns in zip((1, 2), seconds.values(), strict=True):
            taken, sent = timed(ranks, arguments.count, arguments.batch)
            turns.append(taken)
    race = Race(seconds)
    if arguments.out:
        race.append_to(arguments.out, {"count": arguments.count, "batch": arguments.batch})
    print(*race.lines(), f"{sent} bytes per step and rank", sep="\n")


if __name__ == "__main__":
    main()
