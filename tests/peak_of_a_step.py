"""Prints two numbers of bytes for a case: the peak that is predicted, and that of two steps.

In a process of its own: the peak of a process is known, that of a function is not.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from toys import toy_images

from datastill.ground.machine import Machine
from datastill.ground.rng import seeded
from datastill.images import ImageSet
from datastill.methods._base import AbstractMethod, Problem
from datastill.methods.dc import DC
from datastill.methods.dm import DM
from datastill.methods.dsa import DSA
from datastill.methods.frepo import FRePo
from datastill.methods.kip import KIP
from datastill.methods.krr_st import KRRST
from datastill.methods.mtt import MTT
from datastill.networks._base import AbstractArchitecture
from datastill.networks.convnet import ConvNet
from datastill.networks.resnet18 import ResNet18
from datastill.objectives.byol import BYOL
from datastill.objectives.simclr import SimCLR
from datastill.target_model import TargetModel
from datastill.train_target import TargetTraining, train_target
from datastill.verbs._forecast import Forecast, of_distilling, of_training

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
NARROW = ConvNet(widths=(64, 64))
CLASSWISE = ConvNet(widths=(128,), norm="instance")
Work = Callable[[], object]
PLAIN, FAST = Machine(), Machine(precision="bfloat16")


def source() -> ImageSet:
    return toy_images(3000, size=32, channels=3, classes=10)


def distilling(
    method: AbstractMethod[object],
    count: int,
    network: AbstractArchitecture,
    target: AbstractArchitecture | None = None,
    machine: Machine = PLAIN,
) -> tuple[Forecast | None, Work]:
    """What is predicted, and two steps."""
    images = source()
    made = None if target is None else replace(untrained(target, images), machine=machine)
    problem = Problem(images, made, count, network=network, machine=machine)

    def work() -> None:
        state = method.init(problem)
        for _ in range(2):
            method.step(problem, state)

    return of_distilling(method, problem), work


def training(task: TargetTraining, machine: Machine = PLAIN) -> tuple[Forecast | None, Work]:
    images = source()
    forecast = of_training(images, task, machine)
    return forecast, lambda: train_target(images, task, machine=machine)


def untrained(architecture: AbstractArchitecture, images: ImageSet) -> TargetModel:
    with seeded(0, "target"):
        network = architecture(image_size=32, channels=3, outputs=64)
    return TargetModel(network, images.normalizer, 32)


def young(method: AbstractMethod[object]) -> AbstractMethod[object]:
    """With inner models that die early, and one expert: neither is a matter of memory."""
    lengths = {"max_age": 2, "experts": 1, "expert_epochs": 1, "max_start_epoch": 0}
    lengths |= {"matched_epochs": 1, "inner_epochs": 1, "outer_loops": 2, "zca": False}
    return replace(method, **{k: v for k, v in lengths.items() if k in vars(method)})


CASES: dict[str, Callable[[], tuple[Forecast | None, Work]]] = {
    "krr-st": lambda: distilling(young(KRRST(outer_batch=300, pool_size=2)), 200, NARROW, NARROW),
    "krr-st, few of many": lambda: distilling(
        young(KRRST(outer_batch=1000)), 50, ConvNet(), ResNet18()
    ),
    "krr-st, many of few": lambda: distilling(
        young(KRRST(outer_batch=100)), 400, ConvNet(), ResNet18()
    ),
    "krr-st, bfloat16": lambda: distilling(
        young(KRRST(outer_batch=300, pool_size=2)), 200, NARROW, NARROW, FAST
    ),
    "krr-st, bfloat16, many of few": lambda: distilling(
        young(KRRST(outer_batch=100)), 400, ConvNet(), ResNet18(), FAST
    ),
    "frepo": lambda: distilling(young(FRePo(outer_batch=256, pool_size=2)), 200, ConvNet()),
    "frepo, inner batch": lambda: distilling(young(FRePo(inner_batch=100)), 400, NARROW),
    "dc": lambda: distilling(young(DC()), 100, CLASSWISE),
    "dsa": lambda: distilling(young(DSA()), 500, CLASSWISE),
    "dm": lambda: distilling(young(DM()), 500, CLASSWISE),
    "dm, batch norm": lambda: distilling(young(DM(class_batch=64)), 100, ConvNet(widths=(128,))),
    "mtt": lambda: distilling(young(MTT(syn_steps=10)), 50, CLASSWISE),
    "mtt, batches": lambda: distilling(young(MTT(syn_steps=15, syn_batch=20)), 100, CLASSWISE),
    "kip": lambda: distilling(young(KIP(outer_batch=3000)), 1000, NARROW),
    "target, barlow-twins": lambda: training(TargetTraining(batch=64, steps=2)),
    "target, bfloat16": lambda: training(TargetTraining(batch=64, steps=2), FAST),
    "target, simclr": lambda: training(
        TargetTraining(NARROW, objective=SimCLR(), batch=256, steps=2)
    ),
    "target, byol": lambda: training(TargetTraining(NARROW, objective=BYOL(), batch=128, steps=2)),
}


def memory(line: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at most since it was cleared."""
    words = next(x for x in STATUS.read_text(encoding="ascii").splitlines() if x.startswith(line))
    return 1024 * int(words.split()[1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    forecast, work = CASES[sys.argv[1]]()
    assert forecast is not None, "its step could not be tried"
    before = memory("VmRSS")
    CLEAR.write_text("5")  # man 5 proc: the peak starts anew
    work()
    print(forecast.bytes, memory("VmHWM") - before)
