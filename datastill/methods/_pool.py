"""A pool of inner models of different ages (FRePo, Zhou et al., NeurIPS 2022; KRR-ST, Alg. 1)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from datastill.ground.machine import Machine
from datastill.ground.profile import part_of_step
from datastill.ground.rng import seeded
from datastill.maths.optimizers import OptimizerSpec
from datastill.methods._base import Problem
from datastill.networks._base import Network
from datastill.networks.train_step import train_step


@dataclass
class Member:
    """An inner model, how often it was trained, and the clock that ends its life."""

    model: Network
    optimizer: torch.optim.Optimizer
    age: int = 0  # inner steps that this very model has taken
    clock: int = 0  # the age, unless it was set ahead, or inherited in a stale pool
    births: int = 1  # models that this slot has held so far


@dataclass(frozen=True)
class ModelPool:
    """How the members of a pool are born, trained by one step on a batch of pairs, and replaced.

    The pools of KRR-ST and FRePo differ in `optimizer` and `loss`, and in how lives begin:
    `spread_ages` trains every member for a while, `staggered` only shortens first lives.

    `stale` keeps the clock of a slot running when its model is replaced, as the released code of
    KRR-ST does: a slot that has once expired then holds untrained models for ever
    (docs/fidelity.md#pool).
    """

    born: Callable[[int, int], Network]  # (slot, birth) -> a new inner model
    size: int
    max_age: int
    optimizer: OptimizerSpec
    loss: Callable[[Tensor, Tensor], Tensor]  # (outputs, targets), both (B, D) -> scalar
    machine: Machine
    stale: bool = False

    def members(self, *, staggered: bool = False) -> list[Member]:
        """`size` untrained members; the first lives of staggered ones end one after another.

        The clock of member i then starts at i · ⌊max_age / size⌋, as in FRePo's released code.
        """
        members = [self._untrained(self.born(slot, 1), birth=1) for slot in range(self.size)]
        for slot, member in enumerate(members if staggered else []):
            member.clock = slot * (self.max_age // self.size)
        return members

    def spread_ages(
        self, members: list[Member], x_syn: Tensor, y_syn: Tensor, generator: Generator
    ) -> None:
        """Train each untrained member to an age drawn uniformly from 1..max_age - 1.

        The upper end is left out as in the released code, whose `numpy.random.randint` excludes it.
        """
        for member in members:
            age = torch.randint(1, max(2, self.max_age), (), generator=generator)
            for _ in range(int(age)):
                self._train(member, x_syn, y_syn)

    @part_of_step("inner model")
    def advance(self, members: list[Member], slot: int, x_syn: Tensor, y_syn: Tensor) -> None:
        """Train a member by one step, or replace it by a new one when its clock has run out."""
        member = members[slot]
        if member.clock < self.max_age:
            self._train(member, x_syn, y_syn)
            return
        members[slot] = self._reborn(member, slot)
        if self.stale:
            members[slot].clock = member.clock

    def _untrained(self, model: Network, birth: int) -> Member:
        return Member(model, self.optimizer.make(model.parameters()), births=birth)

    def _reborn(self, member: Member, slot: int) -> Member:
        """A new model in the place of an old one."""
        birth = member.births + 1
        return self._untrained(self.born(slot, birth), birth)

    def _train(self, member: Member, x_syn: Tensor, y_syn: Tensor) -> None:
        train_step(member.model, member.optimizer, self.loss, x_syn, y_syn, self.machine)
        member.age += 1
        member.clock += 1


def born(
    problem: Problem, slot: int, birth: int, *, outputs: int, norm_momentum: float | None = None
) -> Network:
    """The `birth`-th inner model of a slot: the same on every machine and after any resume.

    `norm_momentum` is the share of a new batch in the running statistics of batch normalisation.
    """
    with seeded(problem.seed, "pool", slot, birth):
        network = problem.network(
            image_size=problem.images.image_size,
            channels=problem.images.channels,
            outputs=outputs,
        )
    if norm_momentum is not None:
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = norm_momentum
    return problem.machine.place(network)
