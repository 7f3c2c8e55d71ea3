"""Transfer at equal bytes: a line of rows.jsonl per pre-trained network. Resumes where it stopped.

Usage: python benchmarks/equal_bytes/measure.py --packs PACKS --work WORK --out rows.jsonl
       --target efficientnet-lite0 --bytes 80000 --rows "random, coded" solved --seeds 0 1 2 3 4
PACKS has the unpacked arrays of CIFAR-100, CIFAR-10 and half of CUB. Seed s stands for set s and
network s. The rows `none` and `target model` need no set. `table.py` turns the lines into tables.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sets import ROWS, Row
from targets import load_images, load_target, load_task
from torch import nn

import datastill as ds
from datastill.core.rng import derive, seeded
from datastill.ops.metrics import r_squared
from datastill.ops.schedules import Cosine
from datastill.stored_form.stored import TargetBasis
from datastill.transfer._labels import choose_labelled, labels_of
from datastill.transfer._probe import Features
from datastill.transfer.task import TaskContext, TaskData

STUDENT = ds.ConvNet(widths=(32, 64, 128))
PRETRAINING = ds.Pretraining(ds.Sgd(lr=0.1, weight_decay=1e-3), Cosine(), batch=128, steps=1000)
PROBES = {"cifar10": (5, 50), "cifar100": (5,), "cub100": (5,)}  # labelled images per class
DRAWS = {5: 3, 50: 1}  # of labelled images, whose accuracies are averaged
PROBE = ds.LinearProbe(solver="lbfgs", standardize=True)
FINETUNE, FINETUNE_DATA = ds.Finetune(steps=400, batch=128), "cub100"
HELD_OUT = 2000  # images of the source's test split


def probe(network: nn.Module, body: nn.Module, task: TaskData, seed: int, machine: ds.Machine):
    """Yield the accuracy of a classifier of few labels on the features, and on the outputs."""
    parts = {"body": body, "output": network}
    for part, module in parts.items():
        test = Features(
            task.test.predict(module, machine), labels_of(task.test), task.test.num_classes
        )
        for each in PROBES[task.name]:
            total = 0.0
            for draw in range(DRAWS[each]):
                drawn = derive(seed, "label-draw", draw)
                few = choose_labelled(task, f"{each}-per-class", drawn)
                train = Features(few.predict(module, machine), labels_of(few), few.num_classes)
                total += PROBE.accuracy(train, test, drawn)
            yield f"{task.name}, {each} per class, {part}", total / DRAWS[each]


def evaluate(
    network: Any,
    basis: TargetBasis | None,
    tasks: list[TaskData],
    held_out: tuple[Any, Any],
    seed: int,
    machine: ds.Machine,
) -> Iterator[tuple[str, float]]:
    """Yield everything that is measured of a pre-trained network."""
    images, truth = held_out
    outputs = images.predict(network, machine).cpu()
    if basis is not None:  # components that are not stored are predicted by their mean
        outputs = basis.outputs(outputs)
    yield "held-out r2", r_squared(outputs, truth)
    for task in tasks:
        yield from probe(network, network.body, task, seed, machine)
        if task.name == FINETUNE_DATA:
            context = TaskContext(network, STUDENT, seed, machine)
            (result,) = FINETUNE.measure(context, task)
            yield f"{task.name}, fine-tuned", result.accuracy_percent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for flag in ("--packs", "--work", "--out"):
        parser.add_argument(flag, type=Path, required=True)
    parser.add_argument("--target", default="efficientnet-lite0")
    parser.add_argument("--bytes", type=int, default=80_000)
    parser.add_argument("--rows", nargs="+", default=["random, coded", "solved"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    options = parser.parse_args()
    machine = ds.Machine.find(precision="auto")
    source = load_images(options.packs, "cifar100", "train").unlabelled()
    target = load_target(options.target, source, options.work, machine)
    name = target.provenance["name"]
    held_out = load_images(options.packs, "cifar100", "test").limit(HELD_OUT, seed=0)
    truth = target.represent_images(held_out).cpu()
    tasks = [load_task(options.packs, task) for task in PROBES]
    lines = options.out.read_text().splitlines() if options.out.exists() else []
    done = {(x["target"], x["bytes"], x["row"], x["seed"]) for x in map(json.loads, lines)}
    for seed in options.seeds:
        for row in options.rows:
            budget = options.bytes if row in ROWS and row != "full source" else 0
            if (name, budget, row, seed) in done:
                continue
            folder = options.work / "sets" / name / str(budget) / f"{row}-{seed}".replace(", ", "-")
            problem = ds.Problem(
                source,
                target,
                1,
                seed=seed,
                network=STUDENT,
                machine=machine,
                cache=options.work,
            )
            began, facts, basis = time.monotonic(), {}, None
            if row == "target model":
                results = {
                    k: v
                    for task in tasks
                    for k, v in probe(target.module, target.module.body, task, seed, machine)
                }
            else:
                if row == "none":
                    with seeded(seed, "pre-trained-network"):
                        network = STUDENT(image_size=32, channels=3, outputs=truth.shape[1])
                    network = machine.to_device(network).eval()
                else:
                    distilled = ROWS[row](Row(problem, budget, folder))
                    stored, basis = distilled.provenance.get("stored", {}), distilled.basis
                    facts = {
                        "count": len(distilled),
                        "file_bytes": distilled.num_bytes,
                        "quality": stored.get("quality"),
                        "fingerprint": distilled.fingerprint[:16],
                        "set_seconds": round(time.monotonic() - began, 1),
                    }
                    network = ds.pretrain(
                        STUDENT, distilled, seed=seed, pretraining=PRETRAINING, machine=machine
                    )
                results = dict(evaluate(network, basis, tasks, (held_out, truth), seed, machine))
            line = {
                "target": name,
                "bytes": budget,
                "row": row,
                "seed": seed,
                **facts,
                "seconds": round(time.monotonic() - began, 1),
                "results": {k: round(v, 4) for k, v in results.items()},
            }
            with options.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
