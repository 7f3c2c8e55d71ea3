"""Many small runs in one process: nothing grows."""

import gc
import os
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
import torch
from factories import NETWORK, measured, toy_images, toy_problem
from reliability import Figures

from datastill.core.options import with_smoke_values
from datastill.distill import distill
from datastill.methods.dm import DM
from datastill.methods.frepo import FRePo
from datastill.methods.krr_st import KRRST
from datastill.methods.method import Method
from datastill.objectives.barlow_twins import BarlowTwins
from datastill.pretrain import Pretraining, pretrain
from datastill.train_target import TargetTraining, train_target
from datastill.transfer.finetune import Finetune

SECONDS = float(os.environ.get("DATASTILL_SOAK_SECONDS", "120"))
METHODS: tuple[Method[object], ...] = (
    with_smoke_values(KRRST()),
    with_smoke_values(KRRST(bank="full")),
    with_smoke_values(FRePo(zca=False)),
    with_smoke_values(DM()),
)
TRAINING = TargetTraining(NETWORK, 5, BarlowTwins(projector=()), batch=8, steps=2)
ALLOCATOR = 16 * 2**20  # bytes that the C library may keep in other places than before
WARM = 0.25  # of all runs, before which caches fill

STATM, FILES = Path("/proc/self/statm"), Path("/proc/self/fd")


@dataclass(frozen=True)
class Held:
    """What a process holds."""

    resident: int  # bytes
    files: int
    threads: int
    tensors: int

    @staticmethod
    def now() -> "Held":
        gc.collect()
        return Held(
            int(STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE"),
            len(list(FILES.iterdir())),
            threading.active_count(),
            sum(issubclass(type(x), torch.Tensor) for x in gc.get_objects()),
        )


def one_round(number: int, folder: Path) -> None:
    """A target model, a set, a network that is pre-trained on it and fine-tuned: four runs."""
    images, method = toy_images(), METHODS[number % len(METHODS)]
    train_target(images, TRAINING, seed=number, folder=folder / f"target-{number}")
    problem = toy_problem(8, seed=number)
    distilled = distill(method, problem, folder=folder / f"set-{number}")
    network = pretrain(NETWORK, distilled, seed=number, pretraining=Pretraining(batch=4, steps=3))
    finetune = with_smoke_values(Finetune())
    measured(finetune, seed=number, network=network, distilled=distilled)


@pytest.mark.torture
def test_soak__nothing_grows_over_many_runs(tmp_path: Path, figures: Figures) -> None:
    """For two minutes, or as long as DATASTILL_SOAK_SECONDS says."""
    started, held = time.monotonic(), list[Held]()
    while time.monotonic() < started + SECONDS or len(held) < 12:
        one_round(len(held), tmp_path)
        held.append(Held.now())
    first = held[int(WARM * len(held)) :][: len(METHODS)]
    last = held[-len(METHODS) :]
    for name in ("files", "threads", "tensors"):
        before, after = ([asdict(x)[name] for x in part] for part in (first, last))
        figures.add(f"soak: {name}", f"{max(before)}, and after {4 * len(held)} runs {max(after)}")
        assert max(after) <= max(before), name
    grown = min(x.resident for x in last) - min(x.resident for x in first)
    figures.add("soak: resident memory", f"{last[-1].resident >> 20} MiB, {grown / 2**20:+.1f} MiB")
    assert grown < ALLOCATOR
