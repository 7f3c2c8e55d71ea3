"""A small transfer that tests run whole, kill and compare."""

from dataclasses import asdict, replace
from pathlib import Path

from factories import NETWORK, toy_images, toy_problem, toy_task

from datastill.core.machine import Machine
from datastill.core.run_folder import RunFolder
from datastill.distill import distill
from datastill.methods.random_subset import RandomSubset
from datastill.pretrain import PRETRAINING
from datastill.transfer.evaluation import EvaluationSuite, evaluate_networks
from datastill.transfer.finetune import Finetune
from datastill.transfer.held_out import HeldOut
from datastill.transfer.linear_probe import LinearProbe
from datastill.transfer.origins import Origin, from_distilled, from_scratch, from_target
from datastill.transfer.rows import TransferRow

PROBLEM = toy_problem(12)
PROBE = LinearProbe(steps=4, batch=8, labels=("2-per-class", "all"))
TASKS = (PROBE, replace(PROBE, features="output"), Finetune(steps=4, batch=8, crop_padding=1))
ROWS_OF_TASKS = 5  # two probes of two settings, one fine-tuning


def origins() -> list[Origin]:
    row = replace(PRETRAINING["representation"], steps=3)
    distilled = distill(RandomSubset(), PROBLEM)
    return [
        from_scratch(NETWORK, Machine(), image_size=8, channels=1, dim=5),
        from_distilled(distilled, NETWORK, Machine(), row),
        from_target(PROBLEM.needed_target),
    ]


def run(folder: Path) -> list[TransferRow]:
    """All origins with two seeds each, saved after every step."""
    opened = RunFolder.open(folder, {}, resume=True, checkpoint_seconds=0.0)
    held_out = HeldOut(toy_images(16, name="toy/test"), PROBLEM.needed_target)
    suite = EvaluationSuite(TASKS, [toy_task()], held_out)
    work = [(origin, range(2)) for origin in origins()]
    return evaluate_networks(work, suite, machine=Machine(), folder=opened)


def numbers(rows: list[TransferRow]) -> list[tuple[object, ...]]:
    """What must not depend on kills, of every row."""
    kept = [
        replace(row, wall_seconds=0.0, peak_memory_bytes=0, pretrain_seconds=0.0) for row in rows
    ]
    return sorted(tuple(map(str, asdict(row).values())) for row in kept)
