"""What a method takes to make a set: its start, its steps, and what it holds meanwhile.

Counts are in units: images, or one image of each class for methods that make as many of each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from datastill.ground import checkpoint
from datastill.methods._base import AbstractMethod, Problem
from datastill.recipes._base import Sets
from datastill.recipes._meter import Cost, Weigh
from datastill.recipes._phases import Phases, ends, having

FEW, MORE, AMONG = 4, 8, 32  # units of two small sets and of the source that they are made from


@dataclass(frozen=True, eq=False)
class Making:
    """Sets that are made from a source of some size."""

    phases: Phases
    made: Sets
    count: int  # M
    source: int  # N

    @property
    def sets(self) -> Sets:
        """As they are made, but for MTT's experts: those are cached, and not estimated."""
        return replace(self.made, method=_without_experts(self.made.method))

    def begin(self) -> Cost:
        """What a method does before its first step and after its last."""
        method = self.sets.method

        def work(sizes: Mapping[str, int], weigh: Weigh) -> Cost:
            images = max(sizes["images"], 4 * sizes.get("count", 0))
            problem = self.phases.problem(self.sets, images, sizes.get("count", images))
            return weigh(lambda: method.result(problem, method.init(problem)))

        full = {"images": self._units(self.source)}
        if not method.takes_all:
            full["count"] = self._units(self.count)
        return self.phases.once(("begin", self.sets), lambda: self.phases.scale.full(work, full))

    def step(self) -> Cost:
        """A step of a method that is not its first."""
        sets = self.sets
        batches, lengths = _batches(sets.method), ends(sets.method, "age")
        pool = dict.fromkeys(ends(sets.method, "pool_size"), 1)

        def work(sizes: Mapping[str, int], weigh: Weigh) -> Cost:
            method = having(_endless(sets.method), {**pool, **{k: sizes[k] for k in batches}})
            problem = self.phases.problem(sets, 4 * max(sizes.values()), sizes["count"])
            young = having(method, dict.fromkeys(lengths, 2))
            state = young.init(problem)
            young.step(problem, state)
            return weigh(lambda: method.step(problem, state))

        full = {"count": self._units(self.count), **batches}
        return self.phases.once(("step", sets), lambda: self.phases.scale.full(work, full))

    def warm_up(self) -> Cost:
        """What the first step does beyond a later one: ages of a pool are at their mean."""
        ages, pool = ends(self.sets.method, "age"), ends(self.sets.method, "pool_size")
        batches = dict.fromkeys(_batches(self.sets.method), 4)
        few = {**dict.fromkeys(ages, 2), **dict.fromkeys(pool, 1), **batches}
        young = having(_endless(self.sets.method), few)

        def work(sizes: Mapping[str, int], weigh: Weigh) -> Cost:
            images = max(sizes["images"], 4 * sizes["count"])
            problem = self.phases.problem(self.sets, images, sizes["count"])
            first = weigh(lambda: _first_step(young, replace(problem, banks={})))
            state = young.init(problem)
            young.step(problem, state)
            old = having(young, ages)
            return (
                first - weigh(lambda: young.init(problem)) - weigh(lambda: old.step(problem, state))
            )

        def measure() -> Cost:
            full = {"images": self._units(self.source), "count": self._units(self.count)}
            line = self.phases.scale.line(work, full)
            whole, one = (line.at({**full, "images": n}) for n in (full["images"], 0))
            longer = max([1.0, *(age / 2 for age in ages.values())])
            return (whole - one) + one.times(longer * max([1, *pool.values()]))

        return self.phases.once(("warm-up", self.sets), measure)

    def state_bytes(self) -> tuple[float, float]:
        """(of the state, of the bank) of a method while it runs."""

        def measure() -> tuple[float, float]:
            few, more = (self._held(number) for number in (FEW, MORE))
            bank = more[1] / AMONG * self._units(self.source)
            added = (more[0] - few[0]) / (MORE - FEW)
            return few[0] + added * (self._units(self.count) - FEW), bank

        return self.phases.once(("state", self.sets), measure)

    def _units(self, images: int) -> float:
        return images / self.phases.unit(self.sets)

    def _held(self, count: int) -> tuple[int, int]:
        young = having(self.sets.method, dict.fromkeys(ends(self.sets.method, "age"), 2))
        method = having(young, dict.fromkeys(_batches(young), 4))
        problem = self.phases.problem(self.sets, AMONG, count)
        state = method.init(problem)
        method.step(problem, state)
        tensors = checkpoint.capture(state)[1].values()
        banks = [bank.representations.nbytes for bank in problem.banks.values()]
        return sum(tensor.nbytes for tensor in tensors), sum(banks)


def _batches(method: AbstractMethod[Any]) -> dict[str, int]:
    """The sizes of batches; one that is not set follows another option."""
    found = ends(method, "batch")
    return {k: v for k, v in found.items() if v is not None and not k.startswith("expert")}


def _without_experts(method: AbstractMethod[Any]) -> AbstractMethod[Any]:
    """With one expert of the fewest epochs."""
    if not ends(method, "experts"):
        return method
    fewest = {"experts": 1, "expert_epochs": 1, "max_start_epoch": 0, "matched_epochs": 1}
    return having(method, fewest)


def _endless(method: AbstractMethod[Any]) -> AbstractMethod[Any]:
    """The method with more steps than are ever measured: schedules refuse a step after the last."""
    return having(method, dict.fromkeys(ends(method, "outer_steps"), 1_000_000))


def _first_step(method: AbstractMethod[Any], problem: Problem) -> None:
    method.step(problem, method.init(problem))
