"""Solved targets against the target model's own, for the same random images.

Usage: python benchmarks/choices/label_solve.py --images train_images.npy --target targets/mine
       --count 100 --seeds 0 1 > rows.csv
`--images` is a NumPy file of uint8 images (N, H, W, C), such as CIFAR-100's. The first 5,000 are
held out; a network pre-trained on each set is judged by its R² on them.
"""

import argparse
import csv
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import datastill as ds
from datastill.methods.method import Method
from datastill.ops.schedules import Cosine
from datastill.transfer.held_out import HeldOut

HELD_OUT = 5000
NETWORK = ds.ConvNet(widths=(32, 64, 128))


def candidates(max_age: int) -> Iterator[tuple[str, Method[Any]]]:
    yield "random-subset", ds.RandomSubset()
    yield "solved", ds.LabelSolve(max_age=max_age, rescale=False)
    yield "solved and rescaled", ds.LabelSolve(max_age=max_age)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--updates", type=int, default=500)
    parser.add_argument("--max-age", type=int, default=1000)
    arguments = parser.parse_args()
    machine = ds.Machine.find(precision="auto")
    pixels = torch.from_numpy(np.load(arguments.images)).permute(0, 3, 1, 2).contiguous()
    images = ds.ImageSet("source", pixels, ds.Normalizer.of(pixels[HELD_OUT:]))
    source = images.take(torch.arange(HELD_OUT, len(images)))
    target = ds.TargetModel.load(arguments.target, machine).standardized(source.limit(5000, seed=0))
    held_out = HeldOut(images.take(torch.arange(HELD_OUT)), target)
    pretraining = ds.Pretraining(schedule=Cosine(), steps=arguments.updates)
    rows = csv.writer(sys.stdout)
    rows.writerow(["candidate", "count", "seed", "r_squared", "target_rms", "seconds"])
    for seed in arguments.seeds:
        problem = ds.Problem(
            source, target, arguments.count, seed=seed, network=NETWORK, machine=machine
        )
        for name, method in candidates(arguments.max_age):
            began = time.monotonic()
            distilled = ds.distill(method, problem)
            seconds = round(time.monotonic() - began, 1)
            network = ds.pretrain(
                NETWORK, distilled, seed=seed, pretraining=pretraining, machine=machine
            )
            r2 = held_out.r2(network, machine)
            rms = float(distilled.targets.square().mean().sqrt())
            rows.writerow([name, arguments.count, seed, round(r2, 4), round(rms, 3), seconds])
            sys.stdout.flush()


if __name__ == "__main__":
    main()
