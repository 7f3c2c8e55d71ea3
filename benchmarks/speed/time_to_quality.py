"""Minutes until a distilled set is as good as that of the released settings after 4,000 steps.

Usage: python benchmarks/speed/time_to_quality.py --packs PACKS --work WORK --out rows.jsonl
       --candidates released ours solved --seed 0
Every candidate is stopped at its marks and judged: the outer loss on held-out source images with
fresh inner models, and a network pre-trained on the set (held-out R², probe of CIFAR-10 with 50
labels a class). Judging is not timed. One line per mark; candidates that are there are left out.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[1] / "equal_bytes"))
from measure import PRETRAINING, STUDENT, probe
from sets import BANK
from targets import load_images, load_target, load_task

import datastill as ds
from datastill.core.rng import derive
from datastill.distill import warm_up
from datastill.methods.method import Method
from datastill.ops.krr import krr_predict, with_bias
from datastill.ops.metrics import r_squared
from datastill.problem import Problem

COUNT, HELD_OUT = 500, 2000
AGES = (30, 100, 300)  # training steps of the fresh inner models that judge
STEPS = 4000  # of the released settings
MARKS = (0, 30, 60, 125, 250, 500, 1000, 2000, 4000)
RELEASED = ds.KRRST(
    outer_steps=STEPS, outer_lr=1e-4, stale_pool=True, pixel_space="raw", max_age=300, **BANK
)


def candidates() -> dict[str, Method[Any]]:
    """Return the methods; all steps of one are one schedule of learning rates."""
    return {
        "released": RELEASED,
        "ours": ds.KRRST(outer_steps=500, pool_size=4, max_age=300, **BANK),
        "solved, 1 model of age 30": ds.LabelSolve(
            inner_models=1, max_age=30, real_images=2048, **BANK
        ),
        "solved, 3 models": ds.LabelSolve(inner_models=3, max_age=100, real_images=4096, **BANK),
        "solved, 6 models": ds.LabelSolve(max_age=300, **BANK),
    }


def outer_loss(distilled: ds.DistilledSet, problem: Problem, truth: torch.Tensor, images: Any):
    """Return the mean squared error of held-out images over fresh inner models."""
    machine, losses = problem.machine, []
    x = distilled.network_input()
    for number, age in enumerate(AGES):
        seed = derive(problem.seed, "judge", number)
        short = ds.Pretraining(ds.Sgd(lr=0.1, weight_decay=1e-3), batch=COUNT, steps=age)
        network = ds.pretrain(STUDENT, distilled, seed=seed, pretraining=short, machine=machine)
        f_syn = with_bias(machine.forward_in_chunks(network.body, x))
        f_real = with_bias(images.predict(network.body, machine))
        prediction, _ = krr_predict(
            f_real, f_syn, distilled.targets, ridge_of_trace=1e-6, ridge_of_mean=0.0
        )
        losses.append(float(F.mse_loss(prediction.double().cpu(), truth.double())))
    return sum(losses) / len(losses)


def run(method: Method[Any], problem: Problem) -> Iterator[tuple[int, float, ds.DistilledSet]]:
    """Yield steps, seconds so far and the set, at marks and at the end."""
    seconds, began = 0.0, time.monotonic()
    state = method.init(problem)
    warm_up(method, problem, state)
    length = method.length(problem)
    learns_images = isinstance(method, ds.KRRST)
    for step in range(length + 1):
        if step == length or (learns_images and step in MARKS):
            seconds += time.monotonic() - began
            yield step, seconds, method.result(problem, state)
            began = time.monotonic()
        if step < length:
            method.step(problem, state)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for flag in ("--packs", "--work", "--out"):
        parser.add_argument(flag, type=Path, required=True)
    parser.add_argument("--candidates", nargs="+", default=list(candidates()))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    machine = ds.Machine.find(precision="auto")
    source = load_images(options.packs, "cifar100", "train").unlabelled()
    target = load_target("efficientnet-lite0", source, options.work, machine)
    held_out = load_images(options.packs, "cifar100", "test").limit(HELD_OUT, seed=0)
    truth = target.represent_images(held_out).cpu()
    task = load_task(options.packs, "cifar10")
    problem = ds.Problem(
        source,
        target,
        COUNT,
        seed=options.seed,
        network=STUDENT,
        machine=machine,
        cache=options.work,
    )
    lines = options.out.read_text().splitlines() if options.out.exists() else []
    done = {(x["candidate"], x["seed"]) for x in map(json.loads, lines) if x["last"]}
    for name in options.candidates:
        if (name, options.seed) in done:
            continue
        method = candidates()[name]
        for step, seconds, distilled in run(method, problem):
            network = ds.pretrain(
                STUDENT, distilled, seed=0, pretraining=PRETRAINING, machine=machine
            )
            line = {
                "candidate": name,
                "seed": options.seed,
                "step": step,
                "last": step == method.length(problem),
                "seconds": round(seconds, 1),
                "outer_loss": round(outer_loss(distilled, problem, truth, held_out), 4),
                "held_out_r2": round(r_squared(held_out.predict(network, machine).cpu(), truth), 4),
                **dict(probe(network, network.body, task, 0, machine)),
            }
            with options.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
