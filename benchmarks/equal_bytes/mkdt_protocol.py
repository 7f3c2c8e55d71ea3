"""MKDT in its own protocol, reduced: a line of JSON per pre-trained network. Resumes.

Usage: python benchmarks/equal_bytes/mkdt_protocol.py --packs PACKS --work WORK --out mkdt.jsonl
PACKS has the unpacked arrays of CIFAR-100 and CIFAR-10; WORK keeps experts, sets and checkpoints.
The source is CIFAR-100, the target model EfficientNet-Lite0. Published: 3 x 128 channels, 100
experts of 20 epochs, 5,000 outer steps of 40 student steps.
On one core of an EPYC the defaults take about 65 minutes for the experts, once, and 160 minutes for
each set of `mkdt` (19 s per outer step; half with `--syn-steps 10`); `full` takes 35 per network.
Rows: `none`; `random` images with the target model's outputs; `start`, the high-loss images that
MKDT starts from; `mkdt`; `random, learned step size`, pre-trained with that of MKDT's set; `full`.
"""

import argparse
import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path

from targets import load_images, load_target, load_task

import datastill as ds
from datastill.core.rng import seeded
from datastill.networks.architecture import Network
from datastill.protocols.mkdt import PROTOCOL, REPRESENTATION
from datastill.transfer.task import TaskContext

DATA = ("cifar10", "cifar100")
NO_SETTINGS = ("packs", "work", "out", "rows", "sets", "networks")
ROWS = ("none", "random", "start", "mkdt", "random, learned step size", "full")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for flag in ("--packs", "--work", "--out"):
        parser.add_argument(flag, type=Path, required=True)
    parser.add_argument("--target", default="efficientnet-lite0")
    parser.add_argument("--limit", type=int, help="source images; default: all")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--experts", type=int, default=10)
    parser.add_argument("--outer-steps", type=int, default=500)
    parser.add_argument("--outer-lr", type=float, default=1e3)
    parser.add_argument("--syn-steps", type=int, default=20)
    parser.add_argument("--syn-batch", type=int, default=128)
    parser.add_argument("--start-epoch", type=int, default=2, help="latest one of a student")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--sets", type=int, nargs="+", default=[0, 1, 2], help="seeds of sets")
    parser.add_argument("--networks", type=int, default=2, help="networks per set")
    return parser.parse_args()


def make_set(row: str, problem: ds.Problem, method: ds.MKDT, folder: Path) -> ds.DistilledSet:
    """Return the set of a row; `folder` is of MKDT's set."""
    if row == "full":
        return ds.distill(ds.FullSource(), replace(problem, count=len(problem.images)))
    subset = ds.distill(ds.RandomSubset(), problem)
    if row == "random":
        return subset
    distilled = ds.distill(method, problem, folder=folder)
    if row == "mkdt":
        return distilled
    if row == "start":
        return ds.DistilledSet.load(folder / "initial.safetensors")
    learned = {"learned": distilled.provenance["learned"]}
    return replace(subset, provenance={**subset.provenance, **learned})


def untrained(problem: ds.Problem, seed: int) -> Network:
    with seeded(seed, "pre-trained-network"):
        return problem.new_network(problem.needed_target.dim).eval()


def main() -> None:
    options = parse()
    settings = {k: v for k, v in vars(options).items() if k not in NO_SETTINGS}
    digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:8]
    machine = ds.Machine.find(precision="auto")
    whole = load_images(options.packs, "cifar100", "train").unlabelled()
    target = load_target(options.target, whole, options.work, machine)
    source = whole.limit(options.limit, seed=0)
    tasks = [load_task(options.packs, name) for name in DATA]
    student = ds.ConvNet(widths=tuple(options.widths), norm="instance")
    method = ds.MKDT(
        experts=options.experts,
        expert_epochs=options.start_epoch + 2,
        expert_seed=0,  # all sets share the experts
        outer_steps=options.outer_steps,
        outer_lr=options.outer_lr,
        syn_steps=options.syn_steps,
        syn_batch=options.syn_batch,
        max_start_epoch=options.start_epoch,
    )
    lines = options.out.read_text().splitlines() if options.out.exists() else []
    done = [json.loads(line) for line in lines]
    for seed in options.sets:
        problem = ds.Problem(
            source,
            target,
            options.count,
            seed=seed,
            network=student,
            machine=machine,
            cache=options.work,
        )
        folder = options.work / "mkdt" / f"{digest}-{seed}"
        for row in options.rows:
            distilled = None
            for number in range(options.networks):
                key = {"settings": settings, "row": row, "set": seed, "network": number}
                if any(all(line[k] == v for k, v in key.items()) for line in done):
                    continue
                began, network_seed = time.monotonic(), 100 * seed + number
                if row == "none":
                    network = untrained(problem, network_seed)
                else:
                    distilled = distilled or make_set(row, problem, method, folder)
                    network = ds.pretrain(
                        student,
                        distilled,
                        seed=network_seed,
                        pretraining=REPRESENTATION,
                        machine=machine,
                    )
                context = TaskContext(network, student, network_seed, machine)
                results = {
                    f"{data.name}, {result.setting}": round(result.accuracy_percent, 3)
                    for data in tasks
                    for task in PROTOCOL.tasks
                    for result in task.measure(context, data)
                }
                learned = distilled.provenance.get("learned", {}) if distilled else {}
                seconds = round(time.monotonic() - began, 1)
                line = {**key, **learned, "results": results, "seconds": seconds}
                with options.out.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
