"""Transfer at equal bytes: a line of rows.jsonl per pre-trained network. Resumes where it stopped.

Usage: python benchmarks/equal_bytes/measure.py --packs PACKS --work WORK --out rows.jsonl
       --target efficientnet-lite0 --bytes 20000 80000 --rows "random, coded" solved --seeds 0 1 2
PACKS has the unpacked arrays of CIFAR-100, CIFAR-10 and half of CUB; those that are not there are
not probed. Seed s stands for set s and network s. The rows `none` and `target model` need no set.
Sets are made with the ConvNet as inner model, whatever `--student` is then pre-trained on them.
`table.py` turns the lines into tables.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from sets import ROWS, Row
from targets import PACKS, load_images, load_target, load_task
from torch import nn

import datastill as ds
from datastill.core.rng import derive, seeded
from datastill.networks.architecture import Architecture
from datastill.networks.resnet10 import ResNet10
from datastill.ops.metrics import r_squared
from datastill.ops.schedules import Cosine
from datastill.stored_form.stored import TargetBasis
from datastill.transfer._labels import choose_labelled, labels_of
from datastill.transfer._probe import Features
from datastill.transfer.task import TaskContext, TaskData

STUDENT = ds.ConvNet(widths=(32, 64, 128))
STUDENTS: dict[str, Architecture] = {"convnet": STUDENT, "resnet10": ResNet10()}
UPDATES = 1000
PRETRAINING = ds.Pretraining(ds.Sgd(lr=0.1, weight_decay=1e-3), Cosine(), batch=128, steps=UPDATES)
PROBES = {"cifar10": (5, 50), "cifar100": (5,), "cub100": (5,)}  # labelled images per class
DRAWS = {5: 3, 50: 1}  # of labelled images, whose accuracies are averaged
PROBE = ds.LinearProbe(solver="lbfgs", standardize=True)
FINETUNE, FINETUNE_DATA = ds.Finetune(steps=400, batch=128), "cub100"
HELD_OUT = 2000  # images of the source's test split
KEY = ("target", "bytes", "row", "seed", "student", "updates")  # of a line


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
    context: TaskContext,
) -> Iterator[tuple[str, float]]:
    """Yield everything that is measured of a pre-trained network."""
    machine, seed = context.machine, context.seed
    images, truth = held_out
    outputs = images.predict(network, machine).cpu()
    if basis is not None:  # components that are not stored are predicted by their mean
        outputs = basis.outputs(outputs)
    yield "held-out r2", r_squared(outputs, truth)
    for task in tasks:
        yield from probe(network, network.body, task, seed, machine)
        if task.name == FINETUNE_DATA:
            (result,) = FINETUNE.measure(context, task)
            yield f"{task.name}, fine-tuned", result.accuracy_percent


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for flag in ("--packs", "--work", "--out"):
        parser.add_argument(flag, type=Path, required=True)
    parser.add_argument("--target", default="efficientnet-lite0")
    parser.add_argument("--student", choices=STUDENTS, default="convnet")
    parser.add_argument("--updates", type=int, default=UPDATES, help="of pre-training")
    parser.add_argument("--bytes", type=int, nargs="+", default=[80_000])
    parser.add_argument("--rows", nargs="+", default=["random, coded", "solved"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    return parser.parse_args()


class Measurement:
    """Images, target model and student of all lines."""

    def __init__(self, options: argparse.Namespace) -> None:
        packs, work = options.packs, options.work
        self.work, self.machine = work, ds.Machine.find(precision="auto")
        self.student, self.updates = options.student, options.updates
        self.source = load_images(packs, "cifar100", "train").unlabelled()
        self.target = load_target(options.target, self.source, work, self.machine)
        images = load_images(packs, "cifar100", "test").limit(HELD_OUT, seed=0)
        self.held_out = images, self.target.represent_images(images).cpu()
        there = [task for task in PROBES if (packs / PACKS[task]).is_dir()]
        self.tasks = [load_task(packs, task) for task in there]

    def key(self, row: str, budget: int, seed: int) -> dict[str, Any]:
        """Return what tells a line from all others."""
        key = {"target": self.target.provenance["name"], "bytes": budget, "row": row, "seed": seed}
        if self.student != "convnet":
            key["student"] = self.student
        if self.updates != UPDATES:
            key["updates"] = self.updates
        return key

    def line(self, row: str, budget: int, seed: int) -> dict[str, Any]:
        """Make the set, pre-train a network on it, and measure this."""
        began, target = time.monotonic(), self.target
        key, facts = self.key(row, budget, seed), {}
        if row == "target model":
            results: dict[str, float] = {}
            for task in self.tasks:
                results |= probe(target.module, target.module.body, task, seed, self.machine)
        else:
            problem = ds.Problem(
                self.source,
                target,
                1,
                seed=seed,
                network=STUDENT,
                machine=self.machine,
                cache=self.work,
            )
            network, basis, facts = self.network(row, budget, problem)
            context = TaskContext(network, STUDENTS[self.student], seed, self.machine)
            results = dict(evaluate(network, basis, self.tasks, self.held_out, context))
        return {
            **key,
            "precision": self.machine.precision,
            **facts,
            "seconds": round(time.monotonic() - began, 1),
            "results": {name: round(value, 4) for name, value in results.items()},
        }

    def network(
        self, row: str, budget: int, problem: ds.Problem
    ) -> tuple[Any, TargetBasis | None, dict[str, Any]]:
        """Return a network that was pre-trained on the set of a row, and facts of this set."""
        student, machine, seed = STUDENTS[self.student], self.machine, problem.seed
        if row == "none":
            with seeded(seed, "pre-trained-network"):
                network = student(image_size=32, channels=3, outputs=self.target.dim)
            return machine.to_device(network).eval(), None, {}
        began, folder = time.monotonic(), f"{row}-{seed}".replace(", ", "-")
        folder = self.work / "sets" / str(self.target.provenance["name"]) / str(budget) / folder
        distilled = ROWS[row](Row(problem, budget, folder))
        stored = distilled.provenance.get("stored", {})
        facts = {
            "count": len(distilled),
            "file_bytes": distilled.num_bytes,
            "codec": stored.get("codec"),
            "quality": stored.get("quality"),
            "fingerprint": distilled.fingerprint[:16],
            "set_seconds": round(time.monotonic() - began, 1),
        }
        pretraining = replace(PRETRAINING, steps=self.updates)
        network = ds.pretrain(
            student, distilled, seed=seed, pretraining=pretraining, machine=machine
        )
        return network, distilled.basis, facts


def main() -> None:
    asked = options()
    measurement = Measurement(asked)
    lines = asked.out.read_text().splitlines() if asked.out.exists() else []
    done = [{k: v for k, v in json.loads(line).items() if k in KEY} for line in lines]
    for seed in asked.seeds:
        for row in asked.rows:
            with_budget = row in ROWS and row != "full source"
            for budget in asked.bytes if with_budget else [0]:
                if measurement.key(row, budget, seed) in done:
                    continue
                line = json.dumps(measurement.line(row, budget, seed))
                with asked.out.open("a") as file:
                    file.write(line + "\n")
                print(line, flush=True)


if __name__ == "__main__":
    main()
