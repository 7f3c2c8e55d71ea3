"""What each phase of a recipe takes: the real code, run on a few made images.

Lengths and batches are found by the names of options (`*steps`, `*epochs`, `*iterations`, `*age`,
`*batch`), so that a component in a new file is measured too.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil
from typing import Any, TypeVar

import torch

from datastill.artefact import DistilledSet
from datastill.ground.options import shortened
from datastill.ground.rng import seeded
from datastill.images import ImageSet, Normalizer
from datastill.methods._base import Problem
from datastill.methods._trajectory_matching import AbstractTrajectoryMatching
from datastill.networks._base import AbstractArchitecture, Network
from datastill.pretrain import Pretraining, pretrain
from datastill.recipes._base import Recipe, Sets
from datastill.recipes._meter import Cost, Scale, Weigh
from datastill.target_model import TargetModel
from datastill.train_target import TargetTraining, train_target
from datastill.transfer._base import Start, TaskData

MADE = 48  # different made images
LENGTHS = ("steps", "epochs", "iterations", "age")
FURTHER = (1, 20, 200)  # steps more, to tell a step from what happens once
SHORT_SECONDS = 0.25  # that so many steps more may take
Component = TypeVar("Component")
Found = TypeVar("Found")


def ends(component: Any, *words: str) -> dict[str, Any]:
    """The options of a component whose names end in one of the words."""
    return {
        f.name: getattr(component, f.name)
        for f in dataclasses.fields(component)
        if f.name.endswith(words)
    }


def having(component: Component, values: Mapping[str, object]) -> Component:
    """`dataclasses.replace` for any component."""
    return replace(component, **values)  # type: ignore[type-var]


def careful(component: Component) -> Component:
    """With learning rates at which nothing diverges on made images; they change no cost."""
    rates: dict[str, object] = dict.fromkeys(ends(component, "lr"), 1e-9)
    optimizers = {name: careful(spec) for name, spec in ends(component, "optimizer").items()}
    return having(component, {**rates, **optimizers})


def without_experts(method: Component) -> Component:
    """With one expert of the fewest epochs, where there are any."""
    if not isinstance(method, AbstractTrajectoryMatching):
        return method
    fewest = {"experts": 1, "expert_epochs": 1, "max_start_epoch": 0, "matched_epochs": 1}
    return having(method, fewest)


def mean_batch(count: int, batch: int) -> float:
    """Images per step where an epoch's last batch is short."""
    return count / ceil(count / batch)


@dataclass(frozen=True, eq=False)
class Phases:
    """The phases of one recipe on one machine, each measured once."""

    recipe: Recipe
    scale: Scale
    channels: int
    classes: int  # of the target data at most, at least 2
    source_classes: int = 2
    known: dict[object, Any] = field(default_factory=dict)

    def images(self, count: int, classes: int | None = None) -> ImageSet:
        """Made images with labels."""
        size = self.recipe.image_size
        shape = (MADE, self.channels, size, size)
        pixels = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0))
        index, flat = torch.arange(count), (0.5,) * self.channels
        classes = classes or self.classes
        words = tuple(map(str, range(classes)))
        few = pixels.to(torch.uint8)[index % MADE]
        return ImageSet("made/train", few, Normalizer(flat, flat), index % classes, words)

    @property
    def target_step(self) -> Cost:
        """One update of the target model."""
        training = self.recipe.target
        assert training is not None, "the recipe has no target model"
        return self.once("target", lambda: self._target_step(training))

    @property
    def represent(self) -> Cost:
        """The target model, asked of one image among many."""
        target = self.target
        assert target is not None, "nothing is represented in a recipe without a target model"
        return self.once("represent", lambda: self._per_image(target.represent_images))

    @cached_property
    def target(self) -> TargetModel | None:
        """A target model after one step, where the recipe has one."""
        if self.recipe.target is None:
            return None
        training = replace(careful(self.recipe.target), batch=2, steps=1, standardize=False)
        return train_target(self.images(4), training, machine=self.scale.meter.machine)

    @property
    def outputs(self) -> int:
        """Of networks before a task: D, or K where nothing is represented."""
        return self.classes if self.target is None else self.target.dim

    def pretrain_step(
        self, pretraining: Pretraining, network: AbstractArchitecture, sets: Sets, count: int
    ) -> Cost:
        """One update of a network on a distilled set."""
        full = {"batch": mean_batch(count, pretraining.batch)}
        slow = careful(shortened(pretraining))

        def work(sizes: Mapping[str, int], weigh: Weigh) -> Cost:
            distilled = self.distilled(sets, sizes["batch"])

            def run(steps: int) -> object:
                short = replace(slow, batch=sizes["batch"], steps=steps)
                return pretrain(
                    network, distilled, pretraining=short, machine=self.scale.meter.machine
                )

            return per_step(weigh, run)

        kind = self.distilled(sets, 2).target_kind
        key = ("pre-train", pretraining, network, kind, count)
        return self.once(key, lambda: self.scale.full(work, full))

    def distilled(self, sets: Sets, count: int) -> DistilledSet:
        """A set of so many images, as the method leaves it."""

        def make() -> DistilledSet:
            problem, method = self.problem(sets, 8, 8), without_experts(sets.method)
            return method.result(problem, method.init(problem))

        found: DistilledSet = self.once(("distilled", sets), make)
        index = torch.arange(count) % len(found)
        return replace(found, images=found.images[index], targets=found.targets[index])

    def forward(self, network: AbstractArchitecture) -> Cost:
        """A network, asked of one image among many."""
        made, machine = self.network(network), self.scale.meter.machine

        def ask(images: ImageSet) -> object:
            with torch.no_grad():
                return machine.run(made, images.normalized(slice(None)).to(machine.device))

        return self.once(("forward", network), lambda: self._per_image(ask))

    def network(self, architecture: AbstractArchitecture) -> Network:
        """An untrained network with as many outputs as the target model."""
        with seeded(0, "network"):
            made = architecture(
                image_size=self.recipe.image_size, channels=self.channels, outputs=self.outputs
            )
        return self.scale.meter.machine.place(made).eval()

    def weights(self, architecture: AbstractArchitecture) -> int:
        """Bytes of a network."""

        def measure() -> int:
            return sum(value.nbytes for value in self.network(architecture).state_dict().values())

        found: int = self.once(("weights", architecture), measure)
        return found

    def start(self, architecture: AbstractArchitecture, sets: Sets | None, count: int) -> Start:
        """Where a task begins; without sets, a network from scratch."""
        distilled = None if sets is None else self.distilled(sets, count)
        machine = self.scale.meter.machine
        return Start(self.network(architecture), architecture, 0, machine, distilled=distilled)

    def task_data(self, train: int, test: int) -> TaskData:
        """Made target data; every class has a training image, and the head its real size."""
        return TaskData("made", self.images(max(train, self.classes)), self.images(test))

    def unit(self, sets: Sets) -> int:
        """Images that sets are made of at least: one, or one of each class."""
        return self.source_classes if sets.method.by_class else 1

    def problem(self, sets: Sets, images: int, count: int, classes: int | None = None) -> Problem:
        """A small problem of the recipe's kind: so many images, or so many of each class."""
        method, classes = sets.method, classes or self.source_classes
        unit = classes if method.by_class else 1
        made = self.images(images * unit, classes)
        return Problem(
            made if method.needs_labels else made.unlabelled(),
            self.target,
            unit * (images if method.takes_all else count),
            network=sets.network or self.recipe.network,
            machine=self.scale.meter.machine,
        )

    def _target_step(self, training: TargetTraining) -> Cost:
        slow = careful(training)

        def work(sizes: Mapping[str, int], weigh: Weigh) -> Cost:
            images = self.images(2 * sizes["batch"])

            def run(steps: int) -> object:
                short = replace(slow, batch=sizes["batch"], steps=steps, standardize=False)
                return train_target(images, short, machine=self.scale.meter.machine)

            return per_step(weigh, run)

        return self.scale.full(work, {"batch": training.batch})

    def _per_image(self, ask: Callable[[ImageSet], object]) -> Cost:
        def work(sizes: Mapping[str, int], weigh: Weigh) -> Cost:
            images = self.images(sizes["images"])
            return weigh(lambda: ask(images))

        return self.scale.full(work, {"images": 512}).times(1 / 512)

    def once(self, key: object, measure: Callable[[], Found]) -> Found:
        """What was measured under this key before, or is measured now."""
        if key not in self.known:
            self.known[key] = measure()
        found: Found = self.known[key]
        return found


def per_step(weigh: Weigh, run: Callable[[int], object]) -> Cost:
    """What one step more takes; `run` takes a number of steps. Of short steps many are taken."""
    once = weigh(lambda: run(1))
    step = _further(weigh, run, once, FURTHER[0])
    for extra in FURTHER[1:]:
        if once.seconds and step.seconds * extra < SHORT_SECONDS and once.seconds < 1:
            step = _further(weigh, run, once, extra)
    return step


def _further(weigh: Weigh, run: Callable[[int], object], once: Cost, extra: int) -> Cost:
    longer = weigh(lambda: run(1 + extra))
    return replace((longer - once).times(1 / extra), kept=longer.kept)
