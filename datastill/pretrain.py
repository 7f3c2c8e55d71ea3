"""Pre-train a network on a distilled set; the settings follow from the kind of its targets.

`PRETRAINING` has the settings of KRR-ST and of the methods it is compared with, one for each kind
of target (docs/fidelity.md#pre-training).
"""

import copy
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from typing import overload

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from datastill.augment.dsa import Dsa
from datastill.batches import Batches
from datastill.core.errors import ConfigError
from datastill.core.loop import CheckpointConfig, run_steps
from datastill.core.machine import Machine
from datastill.core.options import Json, check_bounds, option
from datastill.core.progress import logger
from datastill.core.rng import fork, seeded
from datastill.core.run_folder import versions
from datastill.distilled_set import DistilledSet, TargetKind
from datastill.networks.architecture import Architecture, Network
from datastill.networks.train_step import train_step
from datastill.ops.optimizers import AdamW, OptimizerSpec, Sgd
from datastill.ops.schedules import Constant, Cosine, HalfDrop, Schedule, set_learning_rates
from datastill.pretrained_network import PretrainedNetwork


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
        learned_lr: Take the step size that was learned with the set, where one was, in place of the
            optimizer's learning rate.

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
    learned_lr: bool = option(
        False, "take the step size that was learned with the set", omit_default=True
    )

    def __post_init__(self) -> None:
        check_bounds(self)

    def length(self, count: int) -> int:
        """Return the number of updates for a set of `count` pairs."""
        return self.steps or self.epochs * -(-count // self.batch)

    def optimizer_for(self, distilled: DistilledSet) -> OptimizerSpec:
        """Return the optimizer, for a set whose step size may have been learned."""
        learned = distilled.provenance.get("learned", {})
        if not self.learned_lr or "student_lr" not in learned:
            return self.optimizer
        logger.info(f"the learning rate is {learned['student_lr']:.4g}, learned with the set")
        return replace(self.optimizer, lr=learned["student_lr"])


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

    network: nn.Module
    optimizer: torch.optim.Optimizer
    batches: Batches
    augmentation: Generator


@overload
def pretrain(
    network: Architecture,
    distilled: DistilledSet,
    *,
    seed: int = 0,
    pretraining: Pretraining | None = None,
    machine: Machine | None = None,
    saving: CheckpointConfig | None = None,
) -> Network: ...


@overload
def pretrain(
    network: nn.Module,
    distilled: DistilledSet,
    *,
    seed: int = 0,
    pretraining: Pretraining | None = None,
    machine: Machine | None = None,
    saving: CheckpointConfig | None = None,
) -> nn.Module: ...


def pretrain(
    network: Architecture | nn.Module,
    distilled: DistilledSet,
    *,
    seed: int = 0,
    pretraining: Pretraining | None = None,
    machine: Machine | None = None,
    saving: CheckpointConfig | None = None,
) -> nn.Module:
    """Train a network on a distilled set and return it in evaluation mode.

    Args:
        network: An architecture, which makes a new network with one output per target dimension or
            class; or any module, of which a copy is trained from the weights that it has.
        distilled: Any distilled set: also a converted one or a random subset.
        seed: Root of all random streams: initial weights, batches, augmentation.
        pretraining: Settings. Default: those of the kind of targets (`PRETRAINING`).
        machine: Device and precision. Default: the CPU in float32.
        saving: Where checkpoints go, so that a killed run can continue. Default: nowhere.

    Returns:
        The pre-trained network, on the device of `machine`.

    Raises:
        ConfigError: A module has no parameters to train, does not take the images, or has another
            number of outputs than the set needs.
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
        >>> linear = nn.Sequential(nn.Flatten(), nn.Linear(16 * 16, 10))
        >>> type(ds.pretrain(linear, subset, pretraining=settings)).__name__
        'Sequential'
    """
    pretraining = pretraining or PRETRAINING[distilled.target_kind]
    machine = machine or Machine()
    is_module = isinstance(network, nn.Module)
    if isinstance(network, Architecture):
        with seeded(seed, "pre-trained-network"):
            trained: nn.Module = network(
                image_size=distilled.image_size,
                channels=distilled.channels,
                outputs=distilled.outputs,
            )
    else:
        trained = copy.deepcopy(network)
        _check_module(trained, distilled)
    machine.to_device(trained)
    state = PretrainState(
        trained,
        pretraining.optimizer_for(distilled).make(trained.parameters()),
        Batches.over(len(distilled), fork(seed, "pre-training-batches")),
        fork(seed, "pre-training-augmentation"),
    )
    pairs = distilled.network_input().to(machine.device), distilled.targets.to(machine.device)
    length = pretraining.length(len(distilled))
    loss = LOSSES[distilled.target_kind]

    def step(number: int) -> dict[str, Tensor]:
        index = machine.to_device(state.batches.draw(pretraining.batch))
        x, y = pairs[0][index], pairs[1][index]
        if pretraining.augmentation is not None:
            x = pretraining.augmentation(x, state.augmentation)
        set_learning_rates(state.optimizer, pretraining.schedule, number, length)
        # dropout and the like of somebody's module draw from torch's global generator
        with seeded(seed, "module", number) if is_module else nullcontext():
            return {"loss": train_step(state.network, state.optimizer, loss, x, y, machine)}

    run_steps("pre-train", state, step, length=length, saving=saving)
    return trained.eval()


def with_provenance(
    network: Network,
    distilled: DistilledSet,
    options: Json,
    *,
    steps: int,
    seed: int,
    precision: str,
) -> PretrainedNetwork:
    """Return a network that was pre-trained on a set, with everything that was used for it."""
    provenance = {
        "set": asdict(distilled.summary),
        "pretraining": options,
        "steps": steps,
        "seed": seed,
        "precision": precision,
        "versions": versions(),
    }
    return PretrainedNetwork(network, distilled.normalizer, provenance)


def _check_module(module: nn.Module, distilled: DistilledSet) -> None:
    """Refuse a module that cannot be trained on the set."""
    name = type(module).__name__
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ConfigError(f"{name} has no parameters to train; give a network that has some")
    shape = tuple(distilled.images.shape[1:])
    device = next(module.parameters()).device
    try:
        with torch.no_grad():
            outputs = copy.deepcopy(module).eval()(distilled.network_input()[:2].to(device))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ConfigError(f"{name} cannot take images of shape {shape}: {error}") from error
    actual = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    expected = (min(2, len(distilled)), distilled.outputs)
    if actual != expected:
        raise ConfigError(
            f"{name} returns {actual} for {expected[0]} images; the set has {distilled.target_kind}"
            f" targets, which need {expected}: give its last layer {distilled.outputs} outputs"
        )
