"""A recipe: a whole experiment as one value, run in parts that are each kept and resumed."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from datastill.artefact import DistilledSet, TargetKind
from datastill.data._base import source
from datastill.distill import Probe, distill
from datastill.ground import lookup
from datastill.ground.machine import Machine, PrecisionName
from datastill.ground.options import Json
from datastill.ground.progress import say
from datastill.ground.run_folder import RunFolder
from datastill.held_out import HeldOut
from datastill.images import ImageSet
from datastill.methods._base import AbstractMethod, Problem
from datastill.networks._base import AbstractArchitecture
from datastill.origins import Origin, from_distilled, from_scratch, from_target
from datastill.pretrain import PRETRAINING, Pretraining
from datastill.report.build import ReportFiles, build
from datastill.target_model import TargetModel
from datastill.train_target import TargetTraining, train_target
from datastill.transfer._base import AbstractTask, TaskData
from datastill.transfer_rows import Judges, transfer_rows


@dataclass(frozen=True)
class Sets:
    """Distilled sets of one method and count; network seed n starts from set n modulo `number`."""

    method: AbstractMethod[Any]
    count: int | Literal["all"]
    number: int = 1


@dataclass(frozen=True)
class Recipe:
    """Source, target model, distilled sets, networks and tasks of one experiment."""

    name: str
    source: str
    image_size: int
    target: TargetTraining
    network: AbstractArchitecture
    sets: tuple[Sets, ...]
    data: tuple[str, ...]  # target data
    tasks: tuple[AbstractTask, ...]
    seeds: int  # networks per row
    pretrain_steps: int | None = None  # the same for every row; None: as PRETRAINING says
    probe_every: int = 0  # outer steps between held-out probes; 0: none
    judge_target: bool = True  # whether the target model itself gets rows
    precision: PrecisionName = "float32"

    def pretraining(self, kind: TargetKind) -> Pretraining:
        """The published row for this kind of target, at this recipe's length."""
        row = PRETRAINING[kind]
        return row if self.pretrain_steps is None else replace(row, steps=self.pretrain_steps)


def named(name: str) -> Recipe:
    """The recipe in the file of that name.

    Raises:
        ConfigError: there is none; the message has the nearest name.
    """
    lookup.check_name(name, lookup.names("datastill.recipes"), kind="recipes")
    module = importlib.import_module(f"datastill.recipes.{name.replace('-', '_')}")
    recipe: Recipe = module.recipe()
    return recipe


def run_recipe(
    recipe: Recipe,
    out: Path,
    *,
    seed: int = 0,
    device: str = "auto",
    data_root: Path | None = None,
    resume: bool = False,
    checkpoint_seconds: float = 60.0,
) -> ReportFiles:
    """Run all parts of a recipe into sub-folders of `out`, then the report.

    Raises:
        ConfigError: `out` has another run in it.
        DataError: images are missing.
    """
    machine = Machine.find(device, recipe.precision)
    options = {"recipe": recipe.name, "seed": seed, "device": machine.device}
    config = {**options, "data_root": data_root and str(data_root), "resolved": describe(recipe)}
    RunFolder.check(out, config, resume=resume)
    run = _Run(recipe, out, seed, machine, data_root, checkpoint_seconds)
    run.read_images()
    RunFolder.open(out, config, resume=resume)
    run.transfer()
    return build([out], out / "report")


def describe(value: Any) -> Any:
    """Any nest of components as JSON, each with its public name."""
    if isinstance(value, tuple | list):
        return [describe(v) for v in value]
    if not hasattr(value, "__dataclass_fields__"):
        return value
    fields: Json = {k: describe(v) for k, v in vars(value).items()}
    return {"kind": type(value).__name__, **fields}


@dataclass(frozen=True, eq=False)
class _Run:
    recipe: Recipe
    out: Path
    seed: int
    machine: Machine
    data_root: Path | None
    checkpoint_seconds: float

    def read_images(self) -> None:
        """Read whatever the recipe needs, so that what is missing is known before any work."""
        Judges(self.recipe.tasks, self.data).check()
        targets = ", ".join(f"{data.name} {len(data.train)}" for data in self.data)
        say(f"{self.images.name} {len(self.images)}, held out {len(self.unseen)}; {targets}")

    @cached_property
    def data(self) -> list[TaskData]:
        """The target data."""
        size = self.recipe.image_size
        return [TaskData.load(name, size, self.data_root) for name in self.recipe.data]

    @cached_property
    def images(self) -> ImageSet:
        """The source, unlabelled but for methods that ask for labels."""
        return source(self.recipe.source).load("train", self.recipe.image_size, self.data_root)

    @cached_property
    def unseen(self) -> ImageSet:
        """The source's test split, which nothing is distilled from."""
        found = source(self.recipe.source).load("test", self.recipe.image_size, self.data_root)
        return found.unlabelled()

    @cached_property
    def held_out(self) -> HeldOut:
        """What asks every network that regresses target representations."""
        return HeldOut(self.unseen, self.target)

    @cached_property
    def problem(self) -> Problem:
        """The unlabelled problem that those of all sets are made from: one bank serves them."""
        return Problem(
            self.images.unlabelled(),
            self.target,
            count=1,
            network=self.recipe.network,
            machine=self.machine,
        )

    @cached_property
    def target(self) -> TargetModel:
        folder = self._part("target", {"training": describe(self.recipe.target)})
        return train_target(
            self.images.unlabelled(),
            self.recipe.target,
            seed=self.seed,
            machine=self.machine,
            folder=folder,
        )

    def transfer(self) -> None:
        """Make whatever sets are missing and measure whatever rows are missing."""
        recipe = self.recipe
        judges = Judges(recipe.tasks, self.data, self.held_out)
        work = self._work()
        folder = self._part("transfer", {"rows": [origin.title for origin, _ in work]})
        transfer_rows(work, judges, machine=self.machine, folder=folder)

    def _work(self) -> list[tuple[Origin, Sequence[int]]]:
        recipe = self.recipe
        seeds = range(recipe.seeds)
        scratch = from_scratch(
            recipe.network,
            self.machine,
            image_size=recipe.image_size,
            channels=self.images.channels,
            dim=self.target.dim,
        )
        work: list[tuple[Origin, Sequence[int]]] = [(scratch, seeds)]
        for sets in recipe.sets:
            for number in range(sets.number):
                distilled = self._distilled(sets, number)
                pretraining = recipe.pretraining(distilled.target_kind)
                origin = from_distilled(distilled, recipe.network, self.machine, pretraining)
                work.append((origin, seeds[number :: sets.number]))
        if recipe.judge_target:
            work.append((from_target(self.target), seeds))
        return work

    def _distilled(self, sets: Sets, number: int) -> DistilledSet:
        """A set from its folder, or made now; what takes no step is made anew, not stored."""
        method, count = sets.method, len(self.images) if sets.count == "all" else sets.count
        problem = replace(self.problem, count=count, seed=self.seed + number)
        if method.needs_labels:
            problem = replace(problem, images=self.images, banks={})
        if method.length(problem) == 0:
            return distill(method, problem)
        title = "-".join(filter(None, [lookup.public_name(method), method.variant]))
        folder = self._part(f"sets/{title}-{count}-{number}", method.identity())
        say(f"distilling {folder.path}")
        return distill(method, problem, folder=folder, probe=self._probe())

    def _probe(self) -> Probe | None:
        if not self.recipe.probe_every:
            return None
        pretraining = self.recipe.pretraining("representation")
        return Probe(self.held_out, self.recipe.probe_every, pretraining)

    def _part(self, name: str, config: dict[str, Any]) -> RunFolder:
        whole = {"recipe": self.recipe.name, "seed": self.seed, **config}
        return RunFolder.open(
            self.out / name, whole, resume=True, checkpoint_seconds=self.checkpoint_seconds
        )
