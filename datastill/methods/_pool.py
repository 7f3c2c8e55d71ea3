"""A pool of inner models of different ages (FRePo, Zhou et al., NeurIPS 2022; KRR-ST, Alg. 1)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from datastill.core.profile import profile_section
from datastill.core.rng import seeded
from datastill.networks.architecture import Architecture, Network
from datastill.networks.train_step import train_step
from datastill.ops.optimizers import OptimizerSpec
from datastill.problem import Problem


@dataclass
class InnerModel:
    """A network that is trained on the distilled set until it is replaced."""

    network: Network
    optimizer: torch.optim.Optimizer
    age: int = 0  # training steps of this network
    reset_counter: int = 0  # at max_age it is replaced; the age, unless it started ahead
    generation: int = 1  # networks that this slot of the pool has held


@dataclass(init=False)
class ModelPool:
    """Inner models that are trained by single steps, and replaced by new ones when they are old.

    `models` is the only field, hence all that a checkpoint holds; the arguments never change.

    Args:
        problem: Gives images, seed and machine.
        outputs: Of each network, D or K.
        networks: Architecture of each model in the pool.
        max_age: Training steps after which a model is replaced.
        optimizer: Of each model.
        loss: Maps (outputs, targets), both (B, outputs), to a scalar.
        norm_momentum: Share of a new batch in the running statistics of batch norm.
            Default: PyTorch's 0.1.
    """

    models: list[InnerModel]

    def __init__(
        self,
        problem: Problem,
        *,
        outputs: int,
        networks: Sequence[Architecture],
        max_age: int,
        optimizer: OptimizerSpec,
        loss: Callable[[Tensor, Tensor], Tensor],
        norm_momentum: float | None = None,
    ) -> None:
        self.problem, self.outputs, self.max_age = problem, outputs, max_age
        self.optimizer, self.loss, self.norm_momentum = optimizer, loss, norm_momentum
        self.networks = networks
        self.models = [self._new_model(slot, generation=1) for slot in range(len(networks))]

    def train(self, slot: int, x: Tensor, y: Tensor) -> Tensor:
        """Train a model by one step on images (B, C, H, W) and targets (B, outputs); its loss."""
        model, machine = self.models[slot], self.problem.machine
        loss = train_step(model.network, model.optimizer, self.loss, x, y, machine)
        model.age += 1
        model.reset_counter += 1
        return loss

    @profile_section("inner model")
    def train_or_replace(self, slot: int, x: Tensor, y: Tensor, *, stale: bool = False) -> None:
        """Train a model by one step, or put a new one in its place once it has reached max_age.

        `stale` keeps the reset counter of the slot, as the released code of KRR-ST does: a slot
        that has once expired then holds untrained models for ever (docs/fidelity.md#pool).
        """
        old = self.models[slot]
        if old.reset_counter < self.max_age:
            self.train(slot, x, y)
            return
        self.replace(slot)
        if stale:
            self.models[slot].reset_counter = old.reset_counter

    def replace(self, slot: int) -> None:
        """Put a new model in place of one."""
        self.models[slot] = self._new_model(slot, self.models[slot].generation + 1)

    def _new_model(self, slot: int, generation: int) -> InnerModel:
        """Return an untrained model: the same on every machine and after any resume."""
        problem = self.problem
        with seeded(problem.seed, "pool", slot, generation):
            network = self.networks[slot](
                image_size=problem.images.image_size,
                channels=problem.images.channels,
                outputs=self.outputs,
            )
        for layer in network.modules():
            if self.norm_momentum is not None and isinstance(layer, nn.BatchNorm2d):
                layer.momentum = self.norm_momentum
        problem.machine.to_device(network)
        optimizer = self.optimizer.make(network.parameters())
        return InnerModel(network, optimizer, generation=generation)
