"""Loop 3: a distilled set makes a pre-trained network; the kind of its targets says how.

The rows of `PRETRAINING` are those of KRR-ST and of the methods it is compared with
(docs/fidelity.md#pre-training); no method name is ever asked.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from datastill.artefact import DistilledSet, TargetKind
from datastill.augment.dsa import Dsa
from datastill.batches import Batches
from datastill.ground.loop import Saving, run_steps
from datastill.ground.machine import Machine
from datastill.ground.options import check_bounds, option
from datastill.ground.rng import fork, seeded
from datastill.maths.optimizers import AdamW, OptimizerSpec, Sgd
from datastill.maths.schedules import Constant, Cosine, HalfDrop, Schedule, set_rates
from datastill.networks._base import AbstractArchitecture, Network
from datastill.networks.train_step import train_step


@dataclass(frozen=True)
class Pretraining:
    """How a network is trained on a distilled set; `steps` overrides `epochs`."""

    optimizer: OptimizerSpec = option(Sgd(lr=0.1, weight_decay=1e-3), "optimizer")
    schedule: Schedule = option(Constant(), "learning rate over the steps")
    augmentation: Dsa | None = option(None, "augmentation of the distilled images")
    batch: int = option(256, "pairs per step", at_least=1, smoke=8)
    epochs: int = option(1000, "passes over the distilled set", at_least=1)
    steps: int | None = option(None, "updates; overrides epochs", at_least=1, smoke=2)

    def __post_init__(self) -> None:
        check_bounds(self)

    def length(self, count: int) -> int:
        """Updates for a set of `count` pairs."""
        return self.steps or self.epochs * -(-count // self.batch)


PRETRAINING: Mapping[TargetKind, Pretraining] = {
    "hard-label": Pretraining(
        Sgd(lr=0.01, weight_decay=5e-4), HalfDrop(0.1), augmentation=Dsa(), epochs=1000
    ),
    "soft-label": Pretraining(
        AdamW(lr=3e-4), Cosine(warmup_steps=500), augmentation=Dsa(), batch=500, steps=10_000
    ),
    "representation": Pretraining(
        Sgd(lr=0.1, weight_decay=1e-3), Constant(), augmentation=None, epochs=1000
    ),
}


def _half_square(outputs: Tensor, targets: Tensor) -> Tensor:
    """½‖·‖² summed over classes, averaged over images (FRePo)."""
    return 0.5 * (outputs - targets).square().sum(1).mean()


LOSSES: Mapping[TargetKind, Callable[[Tensor, Tensor], Tensor]] = {
    "hard-label": F.cross_entropy,
    "soft-label": _half_square,
    "representation": F.mse_loss,
}


@dataclass
class PretrainState:
    """What changes during pre-training; whole in every checkpoint."""

    network: Network
    optimizer: torch.optim.Optimizer
    batches: Batches
    augmentation: Generator


def pretrain(
    architecture: AbstractArchitecture,
    distilled: DistilledSet,
    *,
    seed: int = 0,
    pretraining: Pretraining | None = None,
    machine: Machine | None = None,
    saving: Saving | None = None,
) -> Network:
    """Train a fresh network on a distilled set and return it in evaluation mode."""
    pretraining = pretraining or PRETRAINING[distilled.target_kind]
    machine = machine or Machine()
    with seeded(seed, "pre-trained-network"):
        network = architecture(
            image_size=distilled.image_size,
            channels=distilled.channels,
            outputs=distilled.outputs,
        )
    machine.place(network)
    state = PretrainState(
        network,
        pretraining.optimizer.make(network.parameters()),
        Batches.over(len(distilled), fork(seed, "pre-training-batches")),
        fork(seed, "pre-training-augmentation"),
    )
    pairs = distilled.network_input().to(machine.device), distilled.targets.to(machine.device)
    length = pretraining.length(len(distilled))
    loss = LOSSES[distilled.target_kind]
    step = partial(_step, pretraining, state, loss, machine, pairs, length)
    run_steps("pre-train", state, step, length=length, saving=saving)
    return network.eval()


def _step(
    pretraining: Pretraining,
    state: PretrainState,
    loss: Callable[[Tensor, Tensor], Tensor],
    machine: Machine,
    pairs: tuple[Tensor, Tensor],
    length: int,
    step: int,
) -> dict[str, Tensor]:
    index = machine.here(state.batches.draw(pretraining.batch))
    x, y = pairs[0][index], pairs[1][index]
    if pretraining.augmentation is not None:
        x = pretraining.augmentation(x, state.augmentation)
    set_rates(state.optimizer, pretraining.schedule, step, length)
    return {"loss": train_step(state.network, state.optimizer, loss, x, y, machine)}
