"""Pre-train a network on a distilled set; the settings follow from the kind of its targets.

`PRETRAINING` has the settings of KRR-ST and of the methods it is compared with, one for each kind
of target (docs/fidelity.md#pre-training).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from datastill.augment.dsa import Dsa
from datastill.batches import Batches
from datastill.core.loop import CheckpointConfig, run_steps
from datastill.core.machine import Machine
from datastill.core.options import check_bounds, option
from datastill.core.rng import fork, seeded
from datastill.distilled_set import DistilledSet, TargetKind
from datastill.networks.architecture import Architecture, Network
from datastill.networks.train_step import train_step
from datastill.ops.optimizers import AdamW, OptimizerSpec, Sgd
from datastill.ops.schedules import Constant, Cosine, HalfDrop, Schedule, set_learning_rates


@dataclass(frozen=True)
class Pretraining:
    """Settings of pre-training a network on a distilled set.

    Args:
        optimizer: Of the network.
        schedule: Learning rate over the steps.
        augmentation: Of the distilled images; None: none.
        batch: Pairs of image and target per step.
        epochs: Passes over the distilled set.
        steps: Updates; overrides `epochs`.

    Raises:
        ConfigError: An option is outside its range.

    Example:
        >>> Pretraining(epochs=10, batch=100).length(250)
        30
    """

    optimizer: OptimizerSpec = option(Sgd(lr=0.1, weight_decay=1e-3), "optimizer")
    schedule: Schedule = option(Constant(), "learning rate over the steps")
    augmentation: Dsa | None = option(None, "augmentation of the distilled images")
    batch: int = option(256, "pairs per step", at_least=1, smoke=8)
    epochs: int = option(1000, "passes over the distilled set", at_least=1)
    steps: int | None = option(None, "updates; overrides epochs", at_least=1, smoke=2)

    def __post_init__(self) -> None:
        check_bounds(self)

    def length(self, count: int) -> int:
        """Return the number of updates for a set of `count` pairs."""
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
    """Return ½‖·‖², summed over classes and averaged over images (FRePo's loss)."""
    return 0.5 * (outputs - targets).square().sum(1).mean()


LOSSES: Mapping[TargetKind, Callable[[Tensor, Tensor], Tensor]] = {
    "hard-label": F.cross_entropy,
    "soft-label": _half_square,
    "representation": F.mse_loss,
}


@dataclass
class PretrainState:
    """Everything that changes during pre-training; a checkpoint stores all of it."""

    network: Network
    optimizer: torch.optim.Optimizer
    batches: Batches
    augmentation: Generator


def pretrain(
    architecture: Architecture,
    distilled: DistilledSet,
    *,
    seed: int = 0,
    pretraining: Pretraining | None = None,
    machine: Machine | None = None,
    saving: CheckpointConfig | None = None,
) -> Network:
    """Train a new network on a distilled set and return it in evaluation mode.

    Args:
        architecture: Builds the network, with one output per target dimension or class.
        distilled: Any distilled set: also a converted one or a random subset.
        seed: Root of all random streams: initial weights, batches, augmentation.
        pretraining: Settings. Default: those of the kind of targets (`PRETRAINING`).
        machine: Device and precision. Default: the CPU in float32.
        saving: Where checkpoints go, so that a killed run can continue. Default: nowhere.

    Returns:
        The pre-trained network, on the device of `machine`.

    Raises:
        NotFiniteError: The loss diverged.

    Example:
        >>> import datastill as ds
        >>> images = ds.source("digits").load("train").limit(20, seed=0)
        >>> problem = ds.Problem(images, target=None, count=20)
        >>> subset = ds.distill(ds.RandomSubset(targets="class-label"), problem)
        >>> settings = ds.Pretraining(steps=2)
        >>> network = ds.pretrain(ds.ConvNet(widths=(8,)), subset, pretraining=settings)
        >>> network.outputs
        10
    """
    pretraining = pretraining or PRETRAINING[distilled.target_kind]
    machine = machine or Machine()
    with seeded(seed, "pre-trained-network"):
        network = architecture(
            image_size=distilled.image_size,
            channels=distilled.channels,
            outputs=distilled.outputs,
        )
    machine.to_device(network)
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
    index = machine.to_device(state.batches.draw(pretraining.batch))
    x, y = pairs[0][index], pairs[1][index]
    if pretraining.augmentation is not None:
        x = pretraining.augmentation(x, state.augmentation)
    set_learning_rates(state.optimizer, pretraining.schedule, step, length)
    return {"loss": train_step(state.network, state.optimizer, loss, x, y, machine)}
