"""The parts of a recipe, each of which can be made by a process of its own.

A part reads what it needs from the folders of earlier parts and leaves its result in its own.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

from datastill.artefact import DistilledSet
from datastill.data._base import source
from datastill.data._cache_folder import cache_folder
from datastill.distill import Probe, distill
from datastill.ground.grid import Job
from datastill.ground.machine import Machine
from datastill.ground.progress import say
from datastill.ground.run_folder import RunFolder
from datastill.held_out import HeldOut
from datastill.images import ImageSet
from datastill.methods._base import Problem
from datastill.networks._base import AbstractArchitecture
from datastill.origins import Origin, from_scratch, from_target
from datastill.protocols._base import Protocol
from datastill.recipes._base import Recipe, Sets, describe
from datastill.recipes._places import (
    RESULTS,
    ROWS,
    SETS,
    SHARED,
    TARGET,
    network_name,
    place_name,
    set_place,
)
from datastill.target_model import TargetModel
from datastill.train_target import TargetTraining, train_target
from datastill.transfer._base import TaskData
from datastill.transfer_rows import Judges, transfer_rows


@dataclass(frozen=True)
class Experiment:
    """A recipe and where it is to be run."""

    recipe: Recipe
    out: Path
    seed: int
    machine: Machine
    data_root: Path | None = None
    checkpoint_seconds: float = 60.0
    reuse: Path | None = None  # another run, whose target model and sets are taken where they fit


@dataclass(frozen=True)
class Part:
    """A piece of work with a folder of its own."""

    job: Job
    make: Callable[[], None]


@dataclass(frozen=True, eq=False)
class Workshop:
    """Makes parts of an experiment; what several parts read is read once."""

    experiment: Experiment
    wholes: dict[Sets, DistilledSet] = field(default_factory=dict)  # whole sources, made once

    @property
    def recipe(self) -> Recipe:
        return self.experiment.recipe

    def make(self, name: str) -> None:
        """Make the part of that name, or find that it is made."""
        self.parts[name].make()

    @cached_property
    def parts(self) -> dict[str, Part]:
        """All parts by name; none needs a later one."""
        found = [*self._target_parts(), *self._set_parts(), *self._rows_parts()]
        return {part.job.name: part for part in found}

    def read_images(self) -> None:
        """Read whatever the recipe needs, so that what is missing is known before any work."""
        say(f"reading {', '.join([self.recipe.source, *self.recipe.data])}")
        for protocol in self.recipe.protocols:
            Judges(protocol.tasks, self.data).check()
        targets = ", ".join(f"{data.name} {len(data.train)}" for data in self.data)
        say(f"{self.images.name} {len(self.images)}, held out {len(self.unseen)}; {targets}")

    @cached_property
    def data(self) -> list[TaskData]:
        """The target data."""
        return [
            TaskData(name, self._load(name, "train"), self._load(name, "test"))
            for name in self.recipe.data
        ]

    @cached_property
    def images(self) -> ImageSet:
        """The source, with its labels for methods that ask for them."""
        return self._load(self.recipe.source, "train")

    @cached_property
    def unseen(self) -> ImageSet:
        """The source's test split, which nothing is distilled from."""
        return self._load(self.recipe.source, "test").unlabelled()

    @cached_property
    def target(self) -> TargetModel | None:
        """The target model, which was made before, where the recipe has one."""
        if self.recipe.target is None:
            return None
        return TargetModel.load(self._place(TARGET), self.experiment.machine)

    @cached_property
    def held_out(self) -> HeldOut | None:
        """What asks every network that regresses target representations."""
        return None if self.target is None else HeldOut(self.unseen, self.target)

    @cached_property
    def problem(self) -> Problem:
        """The unlabelled problem that those of all sets are made from: one bank serves them."""
        return Problem(
            self.images.unlabelled(),
            self.target,
            count=1,
            network=self.recipe.network,
            machine=self.experiment.machine,
            cache=None if self.recipe.scale == "smoke" else cache_folder(),
        )

    def _load(self, name: str, split: str) -> ImageSet:
        size, data_root = self.recipe.image_size, self.experiment.data_root
        if self.recipe.scale == "smoke":
            return source(name).miniature(split, size)
        return source(name).load(split, size, data_root)

    def _target_parts(self) -> list[Part]:
        training = self.recipe.target
        return [] if training is None else [Part(Job(TARGET), partial(self._train, training))]

    def _train(self, training: TargetTraining) -> None:
        train_target(
            self.images if training.objective.needs_labels else self.images.unlabelled(),
            training,
            seed=self.experiment.seed,
            machine=self.experiment.machine,
            folder=self._folder(TARGET, {"training": describe(training)}),
        )

    def _job(self, name: str, *needs: str) -> Job:
        """A part after the target model, where the recipe has one."""
        return Job(name, needs if self.recipe.target is None else (TARGET, *needs))

    def _set_parts(self) -> list[Part]:
        return [
            Part(self._job(set_place(sets, number)), partial(self._distil, sets, number))
            for sets in self.recipe.sets
            if not sets.method.takes_all  # not kept: it would be a copy of the source
            for number in range(sets.number)
        ]

    def _distil(self, sets: Sets, number: int) -> None:
        folder = self._folder(set_place(sets, number), sets.method.identity())
        say(f"distilling {folder.path}")
        distill(sets.method, self._problem(sets, number), folder=folder, probe=self._probe())

    def _problem(self, sets: Sets, number: int) -> Problem:
        count = len(self.images) if sets.count == "all" else sets.count
        problem = replace(
            self.problem,
            count=count,
            seed=self.experiment.seed + number,
            network=sets.network or self.recipe.network,
        )
        if sets.method.needs_labels:
            problem = replace(problem, images=self.images, banks={}, whitenings={})
        return problem

    def _probe(self) -> Probe | None:
        if not self.recipe.probe_every or self.held_out is None:
            return None
        pretraining = self.recipe.protocols[0].pretraining("representation")
        return Probe(self.held_out, self.recipe.probe_every, pretraining)

    def _rows_parts(self) -> list[Part]:
        """One per protocol, network, origin and seed."""
        return [
            part
            for protocol in self.recipe.protocols
            for seed in range(self.recipe.seeds)
            for part in self._rows_by(protocol, seed)
        ]

    def _rows_by(self, protocol: Protocol, seed: int) -> Iterator[Part]:
        size, own = self.recipe.image_size, self.recipe.networks or (self.recipe.network,)
        for network in dict.fromkeys(protocol.network(size, network) for network in own):
            place = place_name(protocol.name, network_name(network), seed)
            made: Callable[[], Origin] = partial(self._scratch, protocol, network)
            yield self._rows(protocol, f"scratch/{place}", made, seed)
            for sets in self.recipe.sets:
                title = set_place(sets, seed % sets.number)
                made = partial(self._pretrained, protocol, network, sets, seed % sets.number)
                needs = () if sets.method.takes_all else (title,)
                yield self._rows(protocol, f"{title.removeprefix(SETS)}/{place}", made, seed, needs)
        if self.recipe.judge_target:
            made = partial(self._target_itself, protocol)
            yield self._rows(
                protocol, f"target-model/{place_name(protocol.name, seed)}", made, seed
            )

    def _rows(
        self,
        protocol: Protocol,
        place: str,
        made: Callable[[], Origin],
        seed: int,
        needs: tuple[str, ...] = (),
    ) -> Part:
        name = ROWS + place
        return Part(self._job(name, *needs), partial(self._measure, protocol, name, made, seed))

    def _measure(
        self, protocol: Protocol, name: str, made: Callable[[], Origin], seed: int
    ) -> None:
        origin = made()
        folder = self._folder(name, {"origin": origin.title, "artefact": origin.artefact})
        transfer_rows(
            [(origin, [seed])],
            Judges(protocol.tasks, self.data, self.held_out),
            machine=self.experiment.machine,
            folder=folder,
            shared=self._folder(SHARED, {}),
        )

    def _scratch(self, protocol: Protocol, network: AbstractArchitecture) -> Origin:
        return from_scratch(
            network,
            self.experiment.machine,
            image_size=self.recipe.image_size,
            channels=self.images.channels,
            dim=self.data[0].train.num_classes if self.target is None else self.target.dim,
            protocol=protocol.name,
        )

    def _pretrained(
        self, protocol: Protocol, network: AbstractArchitecture, sets: Sets, number: int
    ) -> Origin:
        return protocol.origin(self._set(sets, number), network, self.experiment.machine)

    def _target_itself(self, protocol: Protocol) -> Origin:
        assert self.target is not None, "Recipe refuses to judge what it has not"
        return from_target(self.target, protocol=protocol.name)

    def _set(self, sets: Sets, number: int) -> DistilledSet:
        if not sets.method.takes_all:
            return DistilledSet.load(self._place(set_place(sets, number)))
        if sets not in self.wholes:
            self.wholes[sets] = distill(sets.method, self._problem(sets, number))
        return self.wholes[sets]

    def _place(self, name: str) -> Path:
        """The folder of a part: that of the run to be reused, where the part is finished there."""
        reused = self.experiment.reuse
        if reused is not None and any((reused / name / file).exists() for file in RESULTS):
            return reused / name
        return self.experiment.out / name

    def _folder(self, name: str, config: Mapping[str, object]) -> RunFolder:
        recipe, seconds = self.recipe, self.experiment.checkpoint_seconds
        facts = {"source": recipe.source, "image_size": recipe.image_size, "scale": recipe.scale}
        whole, place = {**facts, "seed": self.experiment.seed, **config}, self._place(name)
        if place == self.experiment.out / name:
            return RunFolder.open(place, whole, resume=True, checkpoint_seconds=seconds)
        RunFolder.check(place, whole, resume=True)  # of another run: it is read, never written
        return RunFolder(place, seconds)
