"""Whole phases in double precision, by one process or as one of many ranks: what they leave.

Sources whose size is no multiple of the batch: the last batch of an epoch has unequal shares.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from factories import toy_images, toy_target
from torch import Tensor

from datastill.core.checkpoint import capture
from datastill.core.machine import Machine
from datastill.core.ranks import Ranks
from datastill.distill import warm_up
from datastill.images import ImageSet, Normalizer
from datastill.methods.krr_st import KRRST
from datastill.methods.method import Method
from datastill.networks.convnet import ConvNet
from datastill.objectives.barlow_twins import BarlowTwins
from datastill.objectives.byol import BYOL
from datastill.objectives.objective import Objective
from datastill.ops.optimizers import Sgd
from datastill.problem import Problem
from datastill.train_target import TargetTraining, train_target

NETWORK = ConvNet(widths=(4, 8), norm="batch")
KRR_ST = KRRST(outer_steps=8, outer_batch=10, pool_size=2, max_age=3, pixel_space="normalized")
METHODS: dict[str, Method[Any]] = {
    "krr-st": KRR_ST,
    "krr-st with a bank": replace(KRR_ST, bank="lazy"),
}
OBJECTIVES: dict[str, Objective] = {
    "barlow-twins": BarlowTwins(projector=(8, 6)),
    "byol": BYOL(projector=(8, 6), predictor=(7,)),
}


class DoubleNormalizer(Normalizer):
    """Gives pixels in double precision, and so everything that is computed of them."""

    def __call__(self, unit_pixels: Tensor) -> Tensor:
        return super().__call__(unit_pixels.double())


@contextmanager
def double_precision() -> Iterator[None]:
    """New networks are in double precision."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def images() -> ImageSet:
    """27 of them: with batches of 10, the last of each epoch has 7."""
    single = toy_images(27)
    return replace(single, normalizer=DoubleNormalizer(*single.normalizer.statistics.values()))


@contextmanager
def sent_bytes() -> Iterator[list[int]]:
    """The size of every message that this rank sends during the block."""
    sizes: list[int] = []

    def counted(send: Callable[..., object], position: int) -> Callable[..., object]:
        def sending(*args: Any) -> object:
            sizes.append(args[position].numel() * args[position].element_size())
            return send(*args)

        return sending

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dist, "all_reduce", counted(dist.all_reduce, 0))
        patch.setattr(dist, "all_gather", counted(dist.all_gather, 1))
        yield sizes


def distilled(name: str, ranks: Ranks) -> dict[str, Tensor]:
    """Every loss, what is learned, the inner models, and what a rank sent in each step."""
    method, losses, sent = METHODS[name], [], []
    with double_precision():
        source = images()
        target, machine = toy_target(source), Machine(ranks=ranks)
        problem = Problem(source, target, 8, network=NETWORK, machine=machine)
        method.check(problem)
        state = method.init(problem)
        warm_up(method, problem, state)
        for _ in range(method.length(problem)):
            with sent_bytes() as sizes:
                losses.append(torch.as_tensor(method.step(problem, state)["outer_loss"]))
            sent.append(sum(sizes))
    tensors = capture(state)[1]
    births = [model.generation for model in state.pool.models]
    results = {"losses": torch.stack(losses), "sent": torch.tensor(sent)}
    return {**tensors, **results, "births": torch.tensor(births)}


def trained(name: str, ranks: Ranks) -> dict[str, Tensor]:
    """The weights and running statistics of a target model, and what a rank sent."""
    training = TargetTraining(
        architecture=NETWORK,
        outputs=5,
        objective=OBJECTIVES[name],
        optimizer=Sgd(lr=0.05),  # AdamW divides a bias that batch norm ignores by its rounding
        batch=8,
        steps=4,
    )
    with double_precision(), sent_bytes() as sizes:
        target = train_target(images(), training, machine=Machine(ranks=ranks))
    return {**target.module.state_dict(), "sent": torch.tensor(sum(sizes))}
