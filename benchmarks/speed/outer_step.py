"""An outer step of KRR-ST with the paper's networks: plain, released, ours; in one run.

python benchmarks/speed/outer_step.py --count 100 --batch 128 --rounds 10 --out speed.csv
    [--released CHECKOUT]   the released code takes part, from a checkout of it
    [--memory]              peak memory of each contestant, each in a separate process

Ours is timed in float32 and bfloat16, with a bank that knows none and one that knows all of the
representations asked for. Synthetic images: the time does not depend on them.
"""

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch
from interleaved import Contestant, Race, peak_megabytes
from plain import PlainKRRST
from released import step as released_step
from torch.utils.flop_counter import FlopCounterMode

import datastill as ds
from datastill.core.machine import Machine
from datastill.core.rng import seeded
from datastill.images import ImageSet, Normalizer

IMAGES = 4096
RELEASED = "released code"


def problem(size: int, count: int, machine: Machine) -> ds.Problem:
    """Made images, an untrained target model and the paper's inner models."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (IMAGES, 3, size, size), generator=generator).to(torch.uint8)
    images = ImageSet("made/train", pixels, Normalizer((0.5,) * 3, (0.25,) * 3))
    with seeded(0, "benchmark-target"):
        network = ds.ResNet18()(image_size=size, channels=3, outputs=None)
    target = ds.TargetModel(
        machine.to_device(network).eval(), images.normalizer, size, machine=machine
    )
    return ds.Problem(images, target, count=count, machine=machine)


def started(method: ds.KRRST, of: ds.Problem):  # type: ignore[no-untyped-def]
    """A state before its warm-up: the ages of inner models change no time."""
    return method.init(of)


def contestants(arguments: argparse.Namespace) -> dict[str, Contestant]:
    """The plain step first, and what is compared with it."""
    method = ds.KRRST(outer_batch=arguments.batch, bank="off")
    kept = replace(method, bank="lazy")
    plain_problem = problem(arguments.size, arguments.count, Machine(arguments.device))
    state = started(method, plain_problem)
    contestants: dict[str, Contestant] = {}
    if arguments.released:
        start = PlainKRRST(method, plain_problem, state)
        contestants[RELEASED] = released_step(arguments.released, start, method)
    contestants["plain"] = PlainKRRST(method, plain_problem, state).step
    for precision in ("float32", "bfloat16"):
        of = problem(arguments.size, arguments.count, Machine(arguments.device, precision))
        cold, warm = started(kept, of), started(kept, of)
        kept.step(of, cold)  # the warm one draws what the cold one has drawn a turn before
        contestants[f"ours, {precision}, cold bank"] = lambda of=of, s=cold: kept.step(of, s)
        contestants[f"ours, {precision}, warm bank"] = lambda of=of, s=warm: kept.step(of, s)
    return contestants


def report_memory(arguments: argparse.Namespace, names: list[str]) -> None:
    for name in names:
        command = [sys.executable, __file__, *sys.argv[1:], "--alone", name]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        print(f"| {name} | {done.stdout.strip()} MB |")


def add_case(parser: argparse.ArgumentParser) -> None:
    """What `contestants` asks for."""
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--released", type=Path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add_case(parser)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--alone", help="run this contestant only and print its peak memory")
    arguments = parser.parse_args()
    running = contestants(arguments)
    if arguments.alone:
        for _ in range(3):
            running[arguments.alone]()
        print(f"{peak_megabytes():.0f}")
        return
    if arguments.memory:
        report_memory(arguments, list(running))
        return
    race = Race.run(running, arguments.rounds)
    case = {"count": arguments.count, "batch": arguments.batch, "size": arguments.size}
    if arguments.out:
        race.append_to(arguments.out, {**case, "threads": torch.get_num_threads()})
    print(*race.lines(), sep="\n")
    for number in (torch.float32, torch.bfloat16):
        matrix = torch.ones(2048, 2048, dtype=number, device=arguments.device)
        seconds = Race.run({"product": lambda m=matrix: m @ m}, 5).seconds["product"]  # type: ignore[misc]
        print(f"{number}: matrices at {2 * 2048**3 / min(seconds) / 1e9:.0f} GFLOP/s")
    for name in [name for name in running if name != RELEASED]:  # its own equal the plain one's
        with FlopCounterMode(display=False) as counter:
            running[name]()
        print(f"{name}: {counter.get_total_flops() / 1e12:.3f} TFLOP")


if __name__ == "__main__":
    main()
