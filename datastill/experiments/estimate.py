"""Estimate what a recipe takes: run a few steps of each stage and multiply by their number.

Images are synthetic, but networks, batches and sets have their real shapes. All work is run twice
with its loops cut short: once to time it, once to count its operations.
"""

import contextlib
import io
import os
import re
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from datastill.core.errors import DataError, NumericalWarning
from datastill.core.loop import Metrics, PhaseCost, peak_memory_bytes, replaced_loop
from datastill.core.machine import Machine
from datastill.core.progress import logger
from datastill.core.rng import seeded
from datastill.core.run_folder import RunFolder
from datastill.data.source import source
from datastill.distill import distill
from datastill.distilled_set import DistilledSet
from datastill.experiments.recipe import DistillationSpec, Recipe
from datastill.experiments.stages import DistillationStage, EvaluationStage, TargetStage, stages
from datastill.images import ImageSet, Normalizer
from datastill.methods.method import Problem
from datastill.networks.architecture import Architecture, Network
from datastill.pretrain import Pretraining, pretrain
from datastill.target_model import TargetModel
from datastill.train_target import train_target
from datastill.transfer.task import Task, TaskContext, TaskData

FEW = 256  # images that stand for all where the time is proportional to their number
MAX_STEPS, MAX_SECONDS = 20, 1.0  # of a loop that are timed, but two steps at least
CLEAR_PEAK = Path("/proc/self/clear_refs")  # man 5 proc
Step = Callable[[int], Metrics]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Cost:
    """What work takes; of a sum the larger memory."""

    seconds: float = 0.0
    flop: float = 0.0
    memory: int = 0  # bytes, peak
    disk: int = 0  # bytes

    def __add__(self, other: "Cost") -> "Cost":
        seconds, flop = self.seconds + other.seconds, self.flop + other.flop
        return Cost(seconds, flop, max(self.memory, other.memory), self.disk + other.disk)

    def times(self, number: float) -> "Cost":
        """The cost of the same work so often."""
        return replace(self, seconds=self.seconds * number, flop=self.flop * number)


@dataclass
class Trial:
    """One run of some work, with its loops cut short."""

    read: Callable[[], float]  # seconds or operations so far
    folder: RunFolder  # for teachers, which evaluations share
    max_steps: int  # of each loop
    skipped: float = 0.0  # seconds or operations that the other steps would have taken
    steps: int = 0

    def loop(self, phase: str, state: Any, step: Step, length: int) -> PhaseCost:
        """Run the first steps of a loop, in place of `run_steps`."""
        taken = [self.read()]
        while (number := len(taken) - 1) < min(length, self.max_steps):
            step(number)
            taken.append(self.read())
            if number > 0 and taken[-1] - taken[0] > MAX_SECONDS:
                break
        if steps := len(taken) - 1:
            first = min(1, steps - 1)  # the first step also allocates
            self.skipped += (taken[-1] - taken[first]) / (steps - first) * (length - steps)
            self.steps += steps
        return PhaseCost(0.0, 0)

    def cost(self, work: Callable[[], object]) -> float:
        """Seconds or operations of some work."""
        before = self.read()
        work()
        return self.read() - before


@dataclass(eq=False)
class Estimator:
    """Estimates the stages of one recipe on one machine."""

    recipe: Recipe
    machine: Machine
    count_only: bool = False
    timed_steps: int = 0

    def estimate(self) -> dict[str, Cost]:
        """Estimate all stages, by name.

        Raises:
            DataError: The size of some data set is unknown.
        """
        costs: dict[str, Cost] = {}
        with TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore", NumericalWarning)  # of synthetic images
            self.folders = [RunFolder(Path(folder) / name, 1e9) for name in ("timed", "counted")]
            for name, stage in stages(self.recipe).items():
                logger.info(f"estimating {name}")
                match stage:
                    case TargetStage():
                        costs[name] = self.target[1]
                    case DistillationStage():
                        costs[name] = self.distillation(stage.spec)[1] + self.probes(stage.spec)
                    case EvaluationStage():
                        costs[name] = self.evaluation(stage)
        return costs

    def measure(self, work: Callable[[Trial], Result]) -> tuple[Result, Cost]:
        """Run work with its loops cut short; return its result and its full cost."""
        device, seconds, memory = self.machine.device, 0.0, 0
        with contextlib.redirect_stderr(io.StringIO()):  # progress of loops that are cut short
            if not self.count_only:
                _reset_peak_memory(device)
                trial = Trial(lambda: _now(device), self.folders[0], MAX_STEPS)
                with replaced_loop(trial.loop):
                    seconds = trial.cost(lambda: work(trial)) + trial.skipped
                self.timed_steps, memory = self.timed_steps + trial.steps, peak_memory_bytes()
            with FlopCounterMode(display=False) as counter:
                trial = Trial(counter.get_total_flops, self.folders[1], 2)
                with replaced_loop(trial.loop):
                    result = work(trial)
        return result, Cost(seconds, counter.get_total_flops() + trial.skipped, memory)

    @cache  # noqa: B019 - an estimator lives as long as the process
    def images(self, name: str, split: str, labelled: bool = True) -> ImageSet:
        """Synthetic images, as many as the real ones: overlapping windows of a line of noise."""
        size, data = self.recipe.image_size, source(name)
        if self.recipe.scale == "smoke":
            small = data.miniature(split, size)
            return small if labelled else small.unlabelled()
        if (count := data.official_count(split)) is None:
            raise DataError(
                f"the number of images in {name}/{split} is unknown; an estimate needs data with"
                " official counts, see 'datastill list data'"
            )
        shape, classes = (data.channels, size, size), data.num_classes or 2
        seed, pixels = torch.Generator().manual_seed(0), 7 * count + prod(shape)
        line = torch.randint(256, (pixels,), dtype=torch.uint8, generator=seed)
        windows = line.as_strided((count, *shape), (7, size * size, size, 1))
        half = Normalizer((0.5,) * data.channels, (0.5,) * data.channels)
        labels = (torch.arange(count) % classes, tuple(map(str, range(classes))))
        images = ImageSet(f"{name}/{split}", windows, half, *(labels if labelled else ()))
        vars(images)["fingerprint"] = images.name  # to hash all windows would take long
        return images

    @cached_property
    def source(self) -> ImageSet:
        """The images to distill."""
        return self.images(self.recipe.source, "train")

    @cached_property
    def target(self) -> tuple[TargetModel | None, Cost]:
        """The target model after a few steps, and its cost."""
        if (training := self.recipe.target) is None:
            return None, Cost()
        images = self.images(self.recipe.source, "train", training.objective.needs_labels)
        short = replace(training, standardize=False)
        target, cost = self.measure(lambda _: train_target(images, short, machine=self.machine))
        if training.standardize:
            cost += self.forward(target.module, len(images))
        weights = sum(value.nbytes for value in target.module.state_dict().values())
        return target, replace(cost, disk=weights)

    def forward(self, network: nn.Module, count: int) -> Cost:
        """The cost of evaluating a network on so many images."""
        if not (few := min(FEW, count)):
            return Cost()
        images = self.source.take(torch.arange(few) % len(self.source))
        return self.measure(lambda _: images.predict(network, self.machine))[1].times(count / few)

    def problem(self, spec: DistillationSpec, images: ImageSet) -> Problem:
        """What a method is to solve; count is the number of all images where those are few."""
        count = len(images) if spec.count == "all" else min(spec.count, len(images))
        network = spec.network or self.recipe.network
        return Problem(images, self.target[0], count, network=network, machine=self.machine)

    @cache  # noqa: B019
    def distillation(self, spec: DistillationSpec) -> tuple[DistilledSet, Cost]:
        """A set after a few steps, and its cost."""
        one, two, rounds = spec.method.short_preparations() or (spec.method, None, 1)
        images = whole = self.images(self.recipe.source, "train", one.needs_labels)
        if not one.length(problem := self.problem(spec, images)):  # it selects from the source,
            few = FEW if one.takes_all else max(FEW, problem.count)  # and takes time for each image
            images = images.take(torch.arange(min(len(images), few)))

        def work(trial: Trial) -> DistilledSet:
            if two is not None:
                first = trial.cost(lambda: one.init(self.problem(spec, images)))
                second = trial.cost(lambda: two.init(self.problem(spec, images)))
                trial.skipped += (rounds - 1) * max(0.0, second - first) - first - second
            return distill(one, self.problem(spec, images))

        distilled, cost = self.measure(work)
        cost = cost.times(len(whole) / len(images))
        return distilled, replace(cost, disk=int(2 * distilled.num_bytes))

    def probes(self, spec: DistillationSpec) -> Cost:
        """The cost of pre-training and evaluating networks while a set is distilled."""
        if not self.recipe.probe_every:
            return Cost()
        row, network = self.recipe.protocols[0].pretraining("representation"), self.recipe.network
        length = spec.method.length(self.problem(spec, self.source))
        once = self.pretraining(row, network, spec) + self.held_out(network)
        return once.times(length // self.recipe.probe_every)

    @cache  # noqa: B019
    def pretraining(self, row: Pretraining, network: Architecture, spec: DistillationSpec) -> Cost:
        """The cost of pre-training a network on a set."""
        distilled, count = self.distillation(spec)[0], self.problem(spec, self.source).count
        full = replace(row, steps=row.length(count))
        machine = self.machine
        return self.measure(
            lambda _: pretrain(network, distilled, pretraining=full, machine=machine)
        )[1]

    @cache  # noqa: B019
    def held_out(self, network: Architecture) -> Cost:
        """The cost of evaluating a network on the test split of the source."""
        count = len(self.images(self.recipe.source, "test"))
        return self.forward(self.untrained(network, 1), count)

    def evaluation(self, stage: EvaluationStage) -> Cost:
        """The cost of pre-training a network and of all tasks of the protocol."""
        target, cost, spec = self.target[0], Cost(), stage.spec
        outputs = self.images(self.recipe.data[0], "train").num_classes
        outputs = outputs if target is None else target.dim
        if spec is not None:
            distilled = self.distillation(spec)[0]
            row, outputs = stage.protocol.pretraining(distilled.target_kind), distilled.outputs
            cost += self.pretraining(row, stage.network, spec)
            if target is not None and distilled.target_kind == "representation":
                cost += self.held_out(stage.network)
        for task in stage.protocol.tasks:
            on = spec if task.trains_on_distilled else None
            for name in self.recipe.data:
                cost += self.task(task, (stage.network, outputs), name, on)
        return cost

    def untrained(self, architecture: Architecture, outputs: int) -> Network:
        """A network for the images of the recipe."""
        size, channels = self.source.image_size, self.source.channels
        with seeded(0, "estimate"):
            network = architecture(image_size=size, channels=channels, outputs=outputs)
        return self.machine.to_device(network).eval()

    @cache  # noqa: B019
    def task(
        self,
        task: Task,
        network: tuple[Architecture, int],  # and its number of outputs
        name: str,  # of the target data
        spec: DistillationSpec | None,  # of the distilled images that the task trains on
    ) -> Cost:
        """The cost of measuring one network by one task on some target data."""
        made, test = self.untrained(*network), self.images(name, "test")
        few = test.take(torch.arange(min(len(test), FEW)))
        data = TaskData(name, self.images(name, "train"), few)
        distilled = None if spec is None else self.distillation(spec)[0]
        start = TaskContext(made, network[0], 0, self.machine, distilled=distilled)
        cost = self.measure(lambda t: task.measure(replace(start, folder=t.folder), data))[1]
        return cost + self.forward(made, len(test) - len(few))


def estimate_table(
    recipe: Recipe, machine: Machine, *, workers: int = 1, count_only: bool = False
) -> str:
    """Return a table with a row per stage, where equal ones share a row, and the total.

    Args:
        recipe: What would be run.
        machine: Where it would be run.
        workers: Stages at once, which share the cores.
        count_only: Count operations and time nothing.
    """
    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    started, estimator = time.monotonic(), Estimator(recipe, machine, count_only)
    costs = estimator.estimate()
    groups: dict[str, list[Cost]] = {}
    for name, cost in costs.items():
        groups.setdefault(re.sub(r"(?<=[-/])\d+(?=/|$)", "*", name), []).append(cost)
    total = sum(costs.values(), Cost())
    rows: list[tuple[str, ...]] = [("stage", "", "disk", "TFLOP", "time", "memory")]
    for name, alike in [*groups.items(), ("total", [total])]:
        cost, number = sum(alike, Cost()), f"x{len(alike)}" if len(alike) > 1 else ""
        row = (name, number, f"{cost.disk / 2**20:.0f} MiB", f"{cost.flop / 1e12:.4g}")
        rows.append((*row, duration(cost.seconds), f"{cost.memory / 2**30:.1f} GiB"))
    rows = [row[:4] for row in rows] if count_only else rows
    first, *others = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([row[0].ljust(first), *map(str.rjust, row[1:], others)]) for row in rows]
    if not count_only:
        device = f"{torch.get_num_threads()} of {os.cpu_count()} CPU cores"
        if machine.device.startswith("cuda"):
            device = torch.cuda.get_device_name(machine.device)
        lines.append(
            f"This is an estimate from {estimator.timed_steps} timed steps on {device} in"
            f" {machine.precision}, which took {time.monotonic() - started:.0f} s. Reading data"
            " sets and writing files are not in it."
        )
        if workers > 1:
            lines.append(f"{workers} workers need at least {duration(total.seconds / workers)}.")
    if recipe.scale == "smoke":
        lines.append(
            "The smoke scale only tests that everything works: it is no hint at the full one."
        )
    return "\n".join([f"{recipe.name}, scale {recipe.scale}", *lines])


def duration(seconds: float) -> str:
    """Such as 90 s, 35 min, 5.2 h or 12 days."""
    if seconds < 7200:
        return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"


def _now(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _reset_peak_memory(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    elif os.access(CLEAR_PEAK, os.W_OK):
        CLEAR_PEAK.write_text("5", encoding="ascii")
