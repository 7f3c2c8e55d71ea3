"""Which pixel space and image learning rate to choose: measured on validation digits, not on test.

Usage: python benchmarks/choices/quick_settings.py --target runs/quick/target --seeds 3 > rows.csv
The quick recipe with one option changed, distilled once per seed; and random images. Judged by
linear probes with 5 labels per class on 30 % of the digits' 1,000 training images, and by the
held-out R².
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import datastill as ds
from datastill.methods.method import Method
from datastill.recipes import quick
from datastill.transfer.held_out import HeldOut

RECIPE = quick.recipe()
TASKS = [
    ds.LinearProbe(features=features, labels=("5-per-class",), solver="lbfgs", standardize=True)
    for features in ("output", "body")
]


def candidates(count: int) -> Iterator[tuple[str, Method[Any], int]]:
    """(name, method, M)."""
    method = next(s.method for s in RECIPE.sets if isinstance(s.method, ds.KRRST))
    yield "random-subset", ds.RandomSubset(), count
    yield "unit", method, count
    yield "raw", replace(method, pixel_space="raw"), count
    # the same step in unit pixels: the glyphs' deviation is 0.29
    yield "normalized", replace(method, pixel_space="normalized", outer_lr=0.07), count
    yield "unit, half the rate", replace(method, outer_lr=method.outer_lr / 2), count
    yield "unit, stale_pool", replace(method, stale_pool=True), count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    target = ds.TargetModel.load(arguments.target)
    source, test = (ds.source("glyphs").load(split) for split in ("train", "test"))
    train, validation = ds.source("digits").load("train").split(0.3, seed=1)
    digits = ds.TaskData("digits-validation", train, validation)
    held_out = HeldOut(test, target)
    rows = csv.writer(sys.stdout)
    rows.writerow(["candidate", "seed", "probe_output_percent", "probe_body_percent", "r_squared"])
    for seed in range(arguments.seeds):
        for name, method, count in candidates(50):
            problem = ds.Problem(source, target, count, seed=seed, network=RECIPE.network)
            distilled = ds.distill(method, problem)
            pretraining = RECIPE.protocols[0].pretraining("representation")
            network = ds.pretrain(RECIPE.network, distilled, seed=seed, pretraining=pretraining)
            accuracies = [
                task.run(network, digits, seed=seed)[0].accuracy_percent for task in TASKS
            ]
            r2 = held_out.r2(network, ds.Machine())
            rows.writerow([name, seed, *accuracies, r2])
            sys.stdout.flush()


if __name__ == "__main__":
    main()
