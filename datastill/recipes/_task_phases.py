"""What a task takes: its loops, and reading images by a frozen network."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch

from datastill.images import ImageSet, Normalizer
from datastill.networks._base import AbstractArchitecture
from datastill.recipes._base import Sets
from datastill.recipes._meter import Cost, Extrapolation, Weigh
from datastill.recipes._phases import LENGTHS, Phases, careful, ends, having, mean_batch, per_step
from datastill.transfer._base import AbstractTask, TaskData
from datastill.transfer._labels import choose_labelled
from datastill.transfer.finetune import Finetune

SHARED = "teacher_"  # options of what is made once for all rows of some data


@dataclass(frozen=True)
class DataFacts:
    """How many images some target data have."""

    name: str
    train: int
    test: int
    classes: int

    def labelled(self, labels: tuple[str, ...]) -> list[int]:
        """How many images keep their labels; asked of pictures of one pixel."""
        pixels = torch.zeros(self.train, 1, 1, 1, dtype=torch.uint8)
        words = tuple(map(str, range(self.classes)))
        index, flat = torch.arange(self.train) % self.classes, Normalizer((0.5,), (0.5,))
        made = ImageSet(self.name, pixels, flat, index, words)
        data = TaskData(self.name, made, made)
        return [len(choose_labelled(data, text, seed=0)) for text in labels]


@dataclass(frozen=True)
class Loop:
    """A length of a task, and the option that says how many images each step sees."""

    length: str
    batch: str | None  # None: a step sees all labelled images

    @property
    def shared(self) -> bool:
        """Whether it is run once for all rows of some data."""
        return self.length.startswith(SHARED)


def loops(task: AbstractTask) -> list[Loop]:
    """Whatever a task repeats."""
    batches = ends(task, "batch")
    found = []
    for name in ends(task, *LENGTHS):
        batch = name[: len(name) - len(name.rpartition("_")[2])] + "batch"
        found.append(Loop(name, batch if batch in batches else None))
    return found


@dataclass(frozen=True, eq=False)
class Judged:
    """A task that judges networks of one architecture and origin."""

    phases: Phases
    task: AbstractTask
    network: AbstractArchitecture
    sets: Sets | None  # None: from scratch
    count: int  # M; 0 from scratch

    def own(self, data: DataFacts) -> Cost:
        """What one network takes on some data."""
        values = vars(self.task)
        budgets = data.labelled(values.get("labels", ("all",)))
        labelled = sum(budgets) / len(budgets)
        found = self._reading(data, labelled)
        for loop in loops(self.task):
            if not loop.shared:
                once = self._loop(loop, data, labelled)
                found += once.times(len(budgets) * values.get("draws", 1))
        return found

    def shared(self, data: DataFacts) -> Cost:
        """What is done once for all networks."""
        found = Cost()
        for loop in loops(self.task):
            if loop.shared:
                found += self._loop(loop, data, data.train)
        return found

    def _loop(self, loop: Loop, data: DataFacts, labelled: float) -> Cost:
        """All steps of a loop on this data."""
        length = vars(self.task)[loop.length]
        if length is None and isinstance(self.task, Finetune):
            length = self.task.length(data.name)
        if loop.batch is None:
            return self._solver(data, labelled).times(length)
        batch = vars(self.task)[loop.batch]
        if not loop.length.endswith("epochs"):
            return self._step(loop, {"images": mean_batch(int(labelled), batch)}).times(length)
        count = self.count or max(ends(self.task, "count").values(), default=1)
        steps = length * ceil(count / batch)
        return self._step(loop, {"images": mean_batch(count, batch)}).times(steps)

    def _solver(self, data: DataFacts, labelled: float) -> Cost:
        """An iteration of scikit-learn's, which no counter sees: X W, and Xᵀ times its gradient."""
        if vars(self.task).get("solver") != "lbfgs":
            return Cost()
        network = self.phases.network(self.network)
        read_head = vars(self.task).get("features") == "output"
        features = network.outputs if read_head else network.num_features
        flop = 2 * 2 * labelled * features * data.classes
        return Cost(flop / self.phases.scale.rate, flop)

    def _step(self, loop: Loop, full: Mapping[str, float]) -> Cost:
        """One step of a loop; measured for the first data, extrapolated for all."""

        def work(sizes: Mapping[str, int], weigh: Weigh) -> Cost:
            images = sizes["images"]
            short = self._short(images)
            start = self.phases.start(self.network, self.sets, images)
            data = self.phases.task_data(2 * images, 2)

            def run(steps: int) -> object:
                return having(short, {loop.length: steps}).measure(start, data)

            return per_step(weigh, run)

        key = (self.task, loop, self.network, self._from_noise)
        return self.phases.once(key, lambda: self.phases.scale.line(work, full)).at(full)

    def _reading(self, data: DataFacts, labelled: float) -> Cost:
        """The network asked of test images, and of labelled ones where the task reads them."""
        classes = self.phases.classes  # each has an image in every round of labelled ones
        full = {"rounds": labelled / classes, "test": data.test}

        def work(sizes: Mapping[str, int], weigh: Weigh) -> Cost:
            start = self.phases.start(self.network, self.sets, 2)
            made = self.phases.task_data(sizes["rounds"] * classes, sizes["test"])
            repeated = {k: ("all",) * len(v) for k, v in ends(self.task, "labels").items()}
            short = having(self._short(2), {**repeated, **ends(self.task, "draws")})
            return weigh(lambda: short.measure(start, made))

        def measure() -> Extrapolation:
            return self.phases.scale.line(work, full)

        key = (self.task, "reading", self.network, self._from_noise)
        return self.phases.once(key, measure).at(full)

    @property
    def _from_noise(self) -> bool:
        """Whether the origin changes what is done: only where distilled images are trained on."""
        return self.task.trains_on_distilled and self.sets is None

    def _short(self, images: int) -> AbstractTask:
        """The task with every length 1 and every batch as large as asked for."""
        values: dict[str, Any] = dict.fromkeys(ends(self.task, *LENGTHS), 1)
        values |= dict.fromkeys(ends(self.task, "batch", "count"), images)
        values |= dict.fromkeys(ends(self.task, "labels"), ("all",))
        values |= dict.fromkeys(ends(self.task, "draws"), 1)
        return careful(having(self.task, values))
