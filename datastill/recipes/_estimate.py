"""What a recipe will take, part by part, before anything of it is made.

Every part has the time, memory and disk of its phases, which `_phases` measures on made images.
"""

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from datastill.data._base import source
from datastill.ground.errors import DataError, NumericalWarning
from datastill.ground.loop import peak_memory_bytes
from datastill.ground.machine import Machine
from datastill.networks._base import AbstractArchitecture
from datastill.protocols._base import Protocol
from datastill.recipes._base import Recipe, Sets
from datastill.recipes._meter import Cost, Meter, Scale
from datastill.recipes._phases import Phases
from datastill.recipes._places import (
    ROWS,
    SETS,
    SHARED,
    TARGET,
    network_name,
    place_name,
    set_place,
)
from datastill.recipes._set_phases import Making
from datastill.recipes._task_phases import DataFacts, Judged
from datastill.recipes._workshop import Experiment, Workshop

TRAINED = 4  # weights, gradients and at most two moments


@dataclass(frozen=True)
class PartEstimate:
    """What one part takes."""

    name: str
    cost: Cost
    memory: float  # bytes, at most at once
    disk: float  # bytes, with checkpoints


@dataclass(frozen=True, eq=False)
class Estimate:
    """All parts of a recipe in their order."""

    parts: list[PartEstimate]
    needs: dict[str, tuple[str, ...]]
    prepared: float  # bytes of data sets in the cache

    def seconds(self, workers: int) -> float:
        """From the first part to the last, with so many made at once."""
        free, done = [0.0] * workers, dict[str, float]()
        for part in self.parts:
            ready = max([done.get(need, 0.0) for need in self.needs.get(part.name, ())] + [0.0])
            free.sort()
            free[0] = done[part.name] = max(free[0], ready) + part.cost.seconds
        return max(done.values())

    def grouped(self) -> dict[str, list[PartEstimate]]:
        """Parts that differ in their numbers alone, by their common name."""
        groups: dict[str, list[PartEstimate]] = {}
        for part in self.parts:
            groups.setdefault(re.sub(r"(?<=[-/])\d+(?=/|$)", "*", part.name), []).append(part)
        return groups


@dataclass(frozen=True, eq=False)
class Estimator:
    """Estimates one recipe on one machine."""

    recipe: Recipe
    machine: Machine
    meter: Meter
    process: float = field(default_factory=peak_memory_bytes)  # bytes, before any work

    def estimate(self) -> Estimate:
        """Measure every phase and add up.

        Raises:
            DataError: nobody has said how many images some data have.
        """
        jobs = [part.job for part in self._workshop.parts.values()]
        needs = {job.name: tuple(job.needs) for job in jobs}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NumericalWarning)  # made images teach nothing
            made = [*self._target(), *self._sets(), *self._shared(), *self._rows()]
        found = list({part.name: part for part in made}.values())  # smoke makes some sets equal
        names = {self.recipe.source, *self.recipe.data}
        pixels = self.phases.channels * self.recipe.image_size**2
        counts = sum(_count(self.recipe, name, split) for name in names for split in _SPLITS)
        return Estimate(found, needs, counts * pixels)

    @cached_property
    def phases(self) -> Phases:
        """The phases of the recipe."""
        classes = max([2, *(data.classes for data in self.data)])
        scale = Scale.of(self.meter)
        known = _facts(self.recipe, self.recipe.source).classes
        return Phases(self.recipe, scale, source(self.recipe.source).channels, classes, known)

    @cached_property
    def data(self) -> list[DataFacts]:
        """The target data."""
        return [_facts(self.recipe, name) for name in self.recipe.data]

    @cached_property
    def _workshop(self) -> Workshop:
        return Workshop(Experiment(self.recipe, Path(), 0, self.machine))

    @cached_property
    def _source(self) -> int:
        return _count(self.recipe, self.recipe.source, "train")

    @cached_property
    def _unseen(self) -> int:
        return _count(self.recipe, self.recipe.source, "test")

    @cached_property
    def _image_bytes(self) -> float:
        pixels = self.phases.channels * self.recipe.image_size**2
        largest = max([self._source, *(data.train + data.test for data in self.data)])
        return largest * pixels

    def _target(self) -> Iterator[PartEstimate]:
        training, phases = self.recipe.target, self.phases
        if training is None or phases.target is None:
            return
        cost = phases.target_step.times(training.length(self._source))
        if training.standardize:
            cost += phases.represent.times(self._source)
        module = phases.target.rebuildable()[1]
        weights = sum(v.nbytes for v in module.state_dict().values())
        heads = training.objective.heads(module, phases.classes)
        learned = weights + sum(v.nbytes for v in heads.state_dict().values())
        memory = self.process + self._image_bytes + TRAINED * learned + cost.kept
        yield PartEstimate(TARGET, cost, memory, weights + TRAINED * learned)

    def _sets(self) -> Iterator[PartEstimate]:
        for sets in self.recipe.sets:
            if not sets.method.takes_all:
                found = self._set(sets)
                for number in range(sets.number):
                    yield replace(found, name=set_place(sets, number))

    def _set(self, sets: Sets) -> PartEstimate:
        making = Making(self.phases, sets, self._count(sets), self._source)
        length = making.length
        cost, state, bank = making.begin() + making.experts(), 0.0, 0.0
        if length:
            cost += making.step().times(length) + making.warm_up()
            state = making.state_bytes()
        if making.banked is not None:
            cost += making.banked.cost(self.phases.represent)
            bank = making.banked.nbytes
        if self.recipe.probe_every:
            cost += self._probe(sets).times(length // self.recipe.probe_every)
        pairs = 2 * self._set_bytes(sets)  # before and after
        memory = self.process + self._image_bytes + self._frozen + state + bank + cost.kept + pairs
        return PartEstimate("", cost, memory, pairs + state + bank + making.expert_bytes)

    def _probe(self, sets: Sets) -> Cost:
        protocol = self.recipe.protocols[0]
        asked = self.phases.forward(self.recipe.network).times(self._unseen)
        return self._pretraining(protocol, self.recipe.network, sets) + asked

    def _pretraining(self, protocol: Protocol, network: AbstractArchitecture, sets: Sets) -> Cost:
        pretraining = protocol.pretraining(self.phases.distilled(sets, 2).target_kind)
        count = self._count(sets)
        step = self.phases.pretrain_step(pretraining, network, sets, count)
        return step.times(pretraining.length(count))

    def _shared(self) -> Iterator[PartEstimate]:
        """What rows share; made by whichever comes first, and once per worker if not kept."""
        memory = self.process + self._image_bytes + self._frozen
        for sets in self.recipe.sets:
            if sets.method.takes_all:
                cost = Making(self.phases, sets, self._source, self._source).begin()
                whole = memory + cost.kept + self._set_bytes(sets)
                yield PartEstimate(
                    f"{SHARED}/{set_place(sets, 0).removeprefix(SETS)}", cost, whole, 0.0
                )
        if any(self._regresses(sets) for sets in self.recipe.sets):
            truth = self.phases.represent.times(self._unseen)
            yield PartEstimate(f"{SHARED}/held-out", truth, memory, 0.0)
        for protocol in self.recipe.protocols:
            for task in protocol.tasks:
                for data in self.data:
                    judged = Judged(self.phases, task, self.recipe.network, None, 0)
                    if (cost := judged.shared(data)).flop:
                        name = f"{SHARED}/teacher-of-{data.name}"
                        yield PartEstimate(name, cost, memory + cost.kept, 0.0)

    def _rows(self) -> Iterator[PartEstimate]:
        for protocol in self.recipe.protocols:
            for seed in range(self.recipe.seeds):
                yield from self._rows_by(protocol, seed)

    def _rows_by(self, protocol: Protocol, seed: int) -> Iterator[PartEstimate]:
        size, own = self.recipe.image_size, self.recipe.networks or (self.recipe.network,)
        for network in dict.fromkeys(protocol.network(size, network) for network in own):
            place = place_name(protocol.name, network_name(network), seed)
            yield self._row(f"{ROWS}scratch/{place}", protocol, network, None)
            for sets in self.recipe.sets:
                title = set_place(sets, seed % sets.number).removeprefix(SETS)
                yield self._row(f"{ROWS}{title}/{place}", protocol, network, sets)
        if self.recipe.judge_target and self.recipe.target is not None:
            name = f"{ROWS}target-model/{place_name(protocol.name, seed)}"
            yield self._row(name, protocol, self.recipe.target.architecture, None)

    def _row(
        self, name: str, protocol: Protocol, network: AbstractArchitecture, sets: Sets | None
    ) -> PartEstimate:
        count = 0 if sets is None else self._count(sets)
        cost, whole = Cost(), 0.0
        if sets is not None:
            cost += self._pretraining(protocol, network, sets)
            if self._regresses(sets):
                cost += self.phases.forward(network).times(self._unseen)
            whole = self._set_bytes(sets)
        for task in protocol.tasks:
            for data in self.data:
                cost += Judged(self.phases, task, network, sets, count).own(data)
        weights = TRAINED * self.phases.weights(network)
        memory = self.process + self._image_bytes + self._frozen + weights + cost.kept + whole
        return PartEstimate(name, cost, memory, weights)

    def _regresses(self, sets: Sets) -> bool:
        return self.phases.distilled(sets, 2).target_kind == "representation"

    @cached_property
    def _frozen(self) -> float:
        target = self.phases.target
        tensors = {} if target is None else target.module.state_dict()
        return float(sum(value.nbytes for value in tensors.values()))

    def _count(self, sets: Sets) -> int:
        return self._source if sets.count == "all" else sets.count

    def _set_bytes(self, sets: Sets) -> float:
        few = self.phases.distilled(sets, 2)
        return few.num_bytes / 2 * self._count(sets)


_SPLITS = ("train", "test")


def _facts(recipe: Recipe, name: str) -> DataFacts:
    train, test = (_count(recipe, name, split) for split in _SPLITS)
    classes = source(name).num_classes or 2
    if recipe.scale == "smoke":
        classes = source(name).miniature("train", recipe.image_size).num_classes
    return DataFacts(name, train, test, classes)


def _count(recipe: Recipe, name: str, split: str) -> int:
    """How many images the recipe will find."""
    found = source(name)
    if recipe.scale == "smoke":
        return len(found.miniature(split, recipe.image_size))
    count = found.official_count(split)
    if count is None:
        raise DataError(
            f"nobody has said how many images {name}/{split} has; an estimate needs data with"
            " official counts, as 'datastill list data' has them"
        )
    return count
