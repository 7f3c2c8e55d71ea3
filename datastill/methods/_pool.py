"""A pool of inner models of different ages (FRePo, Zhou et al., NeurIPS 2022; KRR-ST, Alg. 1)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from datastill.ground.machine import Machine
from datastill.networks._base import Network


@dataclass
class Member:
    """An inner model, how often it was trained, and the clock that ends its life."""

    model: Network
    optimizer: torch.optim.Optimizer
    age: int = 0  # inner steps that this very model has taken
    clock: int = 0  # the age, but in a stale pool, where a replaced model inherits the clock
    births: int = 1  # models that this slot has held so far


@dataclass(frozen=True)
class ModelPool:
    """How the members of a pool are born, trained by one full-batch step, and replaced.

    `stale` keeps the clock of a slot running when its model is replaced, as the released code of
    KRR-ST does: a slot that has once expired then holds untrained models for ever
    (docs/fidelity.md#pool).
    """

    born: Callable[[int, int], Network]  # (slot, birth) -> a new inner model
    size: int
    max_age: int
    lr: float
    momentum: float
    weight_decay: float
    stale: bool
    machine: Machine

    def members(self) -> list[Member]:
        """`size` untrained members."""
        return [self._member(slot, birth=1) for slot in range(self.size)]

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

    def advance(self, members: list[Member], slot: int, x_syn: Tensor, y_syn: Tensor) -> None:
        """Train a member by one step, or replace it by a new one when its clock has run out."""
        member = members[slot]
        if member.clock < self.max_age:
            self._train(member, x_syn, y_syn)
            return
        members[slot] = self._member(slot, birth=member.births + 1)
        if self.stale:
            members[slot].clock = member.clock

    def _member(self, slot: int, birth: int) -> Member:
        model = self.born(slot, birth)
        optimizer = torch.optim.SGD(
            model.parameters(), lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay
        )
        return Member(model, optimizer, births=birth)

    def _train(self, member: Member, x_syn: Tensor, y_syn: Tensor) -> None:
        member.model.train()
        loss = F.mse_loss(self.machine.run(member.model, x_syn), y_syn)
        member.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        member.optimizer.step()
        member.age += 1
        member.clock += 1
