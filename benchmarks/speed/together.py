"""Several fine-tunings: one after the other on all cores, or at once with their share of them.

python benchmarks/speed/together.py --steps 20 --rounds 7 --out speed-together.csv

The processes are those of `datastill run --workers N`: one per fine-tuning, with its start.
Fine-tuning is that of loops.py, batch 256, with the paper's ConvNet and that of small recipes.
"""

import argparse
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from interleaved import Contestant, Race
from loops import PRECISIONS, synthetic_images

import datastill as ds
from datastill.core.machine import Machine
from datastill.experiments.scheduler import RunStage, Submit, in_subprocesses
from datastill.transfer.task import TaskContext

NETWORKS = {"paper": ds.ConvNet(), "small": ds.ConvNet(widths=(16, 32, 64))}


@dataclass(frozen=True)
class Finetuning:
    """The work of a process: some steps of one network; `datastill run` measures rows by it."""

    steps: int
    device: str

    def __call__(self, name: str) -> None:
        network, precision, _ = name.split()
        machine = Machine.find(self.device, precision)  # type: ignore[arg-type]
        module = NETWORKS[network](image_size=32, channels=3, outputs=512)
        start = TaskContext(machine.to_device(module), NETWORKS[network], 0, machine)
        ds.Finetune(steps=self.steps).measure(start, self.data)

    @cached_property
    def data(self) -> ds.TaskData:
        """Labelled images; two for the test at the end."""
        return ds.TaskData(
            "made", synthetic_images(10_000), synthetic_images(20).take(torch.arange(2))
        )


def doing(submit: Submit, kind: str, number: int) -> Contestant:
    """`number` fine-tunings, until the last one has ended."""

    def run() -> None:
        for future in [submit(f"{kind} {seed}") for seed in range(number)]:
            future.result()

    return run


def race(work: RunStage, kind: str, number: int, rounds: int) -> Race:
    with in_subprocesses(work, 1) as one, in_subprocesses(work, number) as many:
        contestants = {
            "one after the other": doing(one, kind, number),
            f"{number} at once": doing(many, kind, number),
        }
        return Race.run(contestants, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--number", type=int, default=os.cpu_count(), help="of fine-tunings")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    work = Finetuning(arguments.steps, arguments.device)
    for network in NETWORKS:
        for precision in PRECISIONS:
            results = race(work, f"{network} {precision}", arguments.number, arguments.rounds)
            if arguments.out:
                case = {"network": network, "precision": precision, "steps": arguments.steps}
                results.append_to(arguments.out, case)
            print(f"{network}, {precision}", *results.lines(), "", sep="\n")


if __name__ == "__main__":
    main()
