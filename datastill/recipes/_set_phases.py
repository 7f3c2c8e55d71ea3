"""What a method takes to make a set: its start, its steps, and what it holds meanwhile.

Where every class gets as many images, steps are measured with few classes, and loops inside a step
with few turns: what a step takes is linear in both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from typing import Any

import torch

from datastill.ground import checkpoint
from datastill.methods._base import AbstractMethod, Problem
from datastill.methods._trajectory_matching import AbstractTrajectoryMatching
from datastill.methods.krr_st import KRRST
from datastill.recipes._bank_phases import Banked, with_bank
from datastill.recipes._base import Sets
from datastill.recipes._meter import Cost, Weigh
from datastill.recipes._phases import Phases, ends, having, per_step, without_experts

FEW, MORE, AMONG = 4, 8, 32  # units of two small sets and of the source that they are made from
INNER = ("inner_epochs", "syn_steps")  # options that say how long the loop inside a step is
FEW_CLASSES, MORE_CLASSES = 2, 4  # a unit is one image of each of the latter


@dataclass(frozen=True, eq=False)
class Making:
    """Sets that are made from a source of some size."""

    phases: Phases
    made: Sets
    count: int  # M
    source: int  # N

    @cached_property
    def length(self) -> int:
        """Steps."""
        return self._whole.method.length(self._published)

    @cached_property
    def sets(self) -> Sets:
        """As their steps are measured: with one expert and a full bank, which are made before."""
        return replace(self._whole, method=with_bank(without_experts(self._whole.method), "full"))

    def begin(self) -> Cost:
        """What a method does before its first step and after its last, but for experts."""
        method, unit = self.sets.method, self.phases.unit(self.sets)

        def work(sizes: Mapping[str, int], weigh: Weigh) -> Cost:
            images = max(sizes["images"], 4 * sizes.get("count", 0))
            problem = self.phases.problem(self.sets, images, sizes.get("count", images))
            if isinstance(method, AbstractTrajectoryMatching):
                return weigh(lambda: method.images_of(replace(problem, whitenings={})))
            return weigh(lambda: method.result(problem, method.init(problem)))

        full = {"images": self.source / unit}
        if not method.takes_all:
            full["count"] = self.count / unit
        return self.phases.once(("begin", self.sets), lambda: self.phases.scale.full(work, full))

    def experts(self) -> Cost:
        """What the experts take whose trajectories are matched; they are cached."""
        method = self._whole.method
        if not isinstance(method, AbstractTrajectoryMatching):
            return Cost()
        full = {"expert_batch": min(method.expert_batch, self.source)}

        def work(sizes: Mapping[str, int], weigh: Weigh) -> Cost:
            def run(epochs: int) -> None:
                young = having(without_experts(method), {"expert_epochs": epochs, **sizes})
                of_each = ceil(sizes["expert_batch"] / self.phases.source_classes)
                problem = self.phases.problem(self._whole, of_each, 1)
                an_epoch = problem.images.take(torch.arange(sizes["expert_batch"]))
                young.experts_of(replace(problem, images=an_epoch, count=1)).make(1)

            return per_step(weigh, run)

        key = ("experts", self._whole)
        update = self.phases.once(key, lambda: self.phases.scale.full(work, full))
        epoch = update.times(ceil(self.source / method.expert_batch))
        return epoch.times(method.experts * method.expert_epochs)

    @property
    def expert_bytes(self) -> float:
        """Of the experts' parameters after each epoch, on disk."""
        method, network = self._whole.method, self.made.network or self.phases.recipe.network
        if not isinstance(method, AbstractTrajectoryMatching):
            return 0.0
        return method.experts * (method.expert_epochs + 1) * self.phases.weights(network)

    @cached_property
    def banked(self) -> Banked | None:
        """The representations that the method keeps, if any."""
        method = self._whole.method
        if not isinstance(method, KRRST) or method.bank == "off":
            return None
        return Banked(method, self.source, self.phases.outputs)

    def step(self) -> Cost:
        """A step of a method that is not its first, when the bank is full."""

        def measure() -> Cost:
            few = self._step(FEW_CLASSES, 1)
            inner = max([1, *ends(self.sets.method, *INNER).values()])
            flop = few.flop
            if inner > 1:
                flop += (inner - 1) * (self._step(FEW_CLASSES, 2) - few).flop
            if self.sets.method.by_class:
                beyond = (self.phases.source_classes - FEW_CLASSES) / (MORE_CLASSES - FEW_CLASSES)
                flop += beyond * (self._step(MORE_CLASSES, 1) - few).flop
            return replace(few.times(flop / few.flop), kept=few.kept) if few.flop else few

        return self.phases.once(("step", self.sets), measure)

    def warm_up(self) -> Cost:
        """What the first step does beyond a later one: ages of a pool are at their mean."""
        ages, pool = ends(self.sets.method, "age"), ends(self.sets.method, "pool_size")
        if not ages:  # no pool
            return Cost()
        batches = dict.fromkeys(_batches(self.sets.method), 4)
        inner = dict.fromkeys(ends(self.sets.method, *INNER), 1)
        few = {**dict.fromkeys(ages, 2), **dict.fromkeys(pool, 1), **batches, **inner}
        young = having(with_bank(_endless(self.sets.method), "off"), few)

        def work(sizes: Mapping[str, int], weigh: Weigh) -> Cost:
            images = max(sizes["images"], 4 * sizes["count"])
            problem = self._problem(images, sizes["count"])
            first = weigh(lambda: _first_step(young, problem))
            state = young.init(problem)
            young.step(problem, state)
            old = having(young, ages)
            return (
                first - weigh(lambda: young.init(problem)) - weigh(lambda: old.step(problem, state))
            )

        def measure() -> Cost:
            full = {"images": self.source / self._unit, "count": self.count / self._unit}
            line = self.phases.scale.line(work, full)
            whole, one = (line.at({**full, "images": n}) for n in (full["images"], 0))
            longer = max([1.0, *(age / 2 for age in ages.values())])
            return (whole - one) + one.times(longer * max([1, *pool.values()]))

        return self.phases.once(("warm-up", self.sets), measure)

    def state_bytes(self) -> float:
        """Of the state of a method while it runs."""

        def measure() -> float:
            few, more = (self._held(number) for number in (FEW, MORE))
            return few + (more - few) / (MORE - FEW) * (self.count / self._unit - FEW)

        return self.phases.once(("state", self.sets), measure)

    @cached_property
    def _whole(self) -> Sets:
        """With what otherwise follows from the numbers of images and of classes."""
        return replace(self.made, method=self.made.method.settled(self._published))

    @property
    def _published(self) -> Problem:
        """As many images to be made as in the recipe."""
        count = max(1, self.count // self.phases.unit(self.made))
        return self.phases.problem(self.made, count, count)

    @property
    def _unit(self) -> int:
        return MORE_CLASSES if self.made.method.by_class else 1

    def _problem(self, images: int, count: int, classes: int = FEW_CLASSES) -> Problem:
        """A small problem of so many units, with few classes where they get as many images."""
        if not self.made.method.by_class:
            return self.phases.problem(self.sets, images, count)
        of_each = self._unit // classes
        return self.phases.problem(self.sets, images * of_each, count * of_each, classes)

    def _step(self, classes: int, inner: int) -> Cost:
        """With so many classes where they get as many images, and so many steps or epochs in it."""
        batches, lengths = _batches(self.sets.method), ends(self.sets.method, "age")
        pool = dict.fromkeys(ends(self.sets.method, "pool_size"), 1)
        short = dict.fromkeys(ends(self.sets.method, *INNER), inner)
        endless = having(_endless(self.sets.method), short)

        def work(sizes: Mapping[str, int], weigh: Weigh) -> Cost:
            method = having(endless, {**pool, **{k: sizes[k] for k in batches}})
            problem = self._problem(4 * max(sizes.values()), sizes["count"], classes)
            young = having(method, dict.fromkeys(lengths, 2))
            state = young.init(problem)
            young.step(problem, state)
            return weigh(lambda: method.step(problem, state))

        return self.phases.scale.full(work, {"count": self.count / self._unit, **batches})

    def _held(self, count: int) -> int:
        young = having(self.sets.method, dict.fromkeys(ends(self.sets.method, "age"), 2))
        few = dict.fromkeys(_batches(young), 4) | dict.fromkeys(ends(young, *INNER), 1)
        method = having(young, few)
        problem = self._problem(AMONG, count)
        state = method.init(problem)
        method.step(problem, state)
        return sum(tensor.nbytes for tensor in checkpoint.capture(state)[1].values())


def _batches(method: AbstractMethod[Any]) -> dict[str, int]:
    """The sizes of batches; one that is not set follows another option."""
    found = ends(method, "batch")
    return {k: v for k, v in found.items() if v is not None and not k.startswith("expert")}


def _endless(method: AbstractMethod[Any]) -> AbstractMethod[Any]:
    """The method with more steps than are ever measured: schedules refuse a step after the last."""
    return having(method, dict.fromkeys(ends(method, "outer_steps"), 1_000_000))


def _first_step(method: AbstractMethod[Any], problem: Problem) -> None:
    method.step(problem, method.init(problem))
