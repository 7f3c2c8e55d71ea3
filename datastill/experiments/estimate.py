"""Estimate what a recipe takes: run the first steps of each stage, and multiply by their number.

The stages run as they do in `runner`, on synthetic images of the real number and size. Only the
loops are cut short, predictions for many images among them.
"""

import contextlib
import io
import os
import re
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from datastill.core.errors import DataError, NumericalWarning
from datastill.core.loop import Metrics, PhaseCost, peak_memory_bytes, replaced_loop, run_steps
from datastill.core.machine import Machine
from datastill.core.progress import duration, logger
from datastill.data.source import source
from datastill.experiments.recipe import DistillationSpec, Recipe
from datastill.experiments.runner import Experiment, ExperimentRunner
from datastill.experiments.stages import DistillationStage, EvaluationStage, Stage, stages
from datastill.images import ImageSet, Normalizer
from datastill.problem import Problem

FEW = 256  # images to select from, where the time grows with their number
BATCH = 128  # images of one step of a prediction
MAX_STEPS, MAX_SECONDS = 20, 1.0  # of a loop that are timed, but two steps at least
CLEAR_PEAK = Path("/proc/self/clear_refs")  # man 5 proc
Amounts = np.ndarray[Any, np.dtype[np.float64]]  # (2,): seconds and operations


@dataclass(frozen=True)
class Cost:
    """Time, operations, memory and disk of some work; a sum has the larger memory of both."""

    seconds: float = 0.0
    flop: float = 0.0
    memory: int = 0  # bytes, peak
    disk: int = 0  # bytes

    def __add__(self, other: "Cost") -> "Cost":
        seconds, flop = self.seconds + other.seconds, self.flop + other.flop
        return Cost(seconds, flop, max(self.memory, other.memory), self.disk + other.disk)


@dataclass
class Meter:
    """Measures work as if its loops ran to the end, although they are cut short.

    Args:
        device: Device on which the work runs.
        probe_every: Steps of distillation between probes; 0: none.
    """

    device: str
    probe_every: int
    # time that was not run, and the operations of all loops
    skipped: Amounts = field(default_factory=lambda: np.zeros(2))
    whitened: dict[object, tuple[ImageSet, Amounts]] = field(default_factory=dict)

    def now(self) -> Amounts:
        """Return the seconds and the operations so far."""
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)
        return np.array([time.perf_counter(), 0.0]) + self.skipped

    def cost(self, work: Callable[..., object], *arguments: Any, count: bool = False) -> Amounts:
        """Run `work` and return its cost; `count` includes operations outside of loops."""
        before, counter = self.now(), FlopCounterMode(display=False)
        with counter if count else contextlib.nullcontext():
            work(*arguments)
        return np.add(self.now() - before, [0, counter.get_total_flops()])

    def loop(
        self, phase: str, state: Any, step: Callable[[int], Metrics], length: int
    ) -> PhaseCost:
        """Run the first steps of a loop, in place of `run_steps`."""
        if length == 0:
            return PhaseCost(0.0, 0)
        times = [self.now()[0]]
        with FlopCounterMode(display=False) as counter:
            step(0)  # timed only if it is the only one: it also allocates, and counts operations
        times.append(self.now()[0])
        while (number := len(times) - 1) < min(length, MAX_STEPS):
            if number > 1 and times[-1] - times[1] > MAX_SECONDS:
                break
            step(number)
            times.append(self.now()[0])
        first, elapsed = min(1, number - 1), times[-1] - times[0]
        each = (times[-1] - times[first]) / (number - first)
        self.skipped += [each * length - elapsed, 1.0 * counter.get_total_flops() * length]
        if phase == "distill" and number < self.probe_every <= length:
            probed = self.cost(step, self.probe_every - 1)
            self.skipped += (probed - [each, 0.0]) * (length // self.probe_every) - probed
        return PhaseCost(0.0, 0)


@dataclass(frozen=True, repr=False)
class SyntheticImages(ImageSet):
    """Images of which only a few are predicted; the cost of predicting all is extrapolated."""

    meter: Meter = field(kw_only=True)

    @staticmethod
    def like(images: ImageSet, meter: Meter) -> "SyntheticImages":
        """Make them from other images."""
        fields = (images.name, images.images, images.normalizer, images.labels, images.classes)
        return SyntheticImages(*fields, meter=meter)

    def take(self, index: Tensor, *, name: str | None = None) -> ImageSet:
        return self.like(super().take(index, name=name), self.meter)

    def unlabelled(self) -> ImageSet:
        return self.like(super().unlabelled(), self.meter)

    def whitened(self, ridge_of_mean: float) -> ImageSet:
        """Whiten once: the eigenvalues of a large matrix take long."""
        key, results = (self.name, len(self), ridge_of_mean), self.meter.whitened
        if key not in results:
            before = self.meter.now()
            results[key] = super().whitened(ridge_of_mean), self.meter.now() - before
        else:
            self.meter.skipped += results[key][1]
        return results[key][0]

    def predict(self, network: nn.Module, machine: Machine, **options: Any) -> Tensor:
        """Predict some images, and repeat their outputs."""
        parts, outputs = torch.split(torch.arange(len(self)), BATCH), []

        def step(number: int) -> Metrics:
            part = ImageSet.take(self, parts[number])
            outputs.append(part.predict(network, machine, **options))
            return {}

        run_steps("predict", None, step, length=len(parts))
        few = torch.cat(outputs)
        return few[torch.arange(len(self)) % len(few)]

    @property
    def fingerprint(self) -> str:
        """The name, because hashing all pixels takes long."""
        return self.name


@dataclass(frozen=True, eq=False)
class ShortRunner(ExperimentRunner):
    """Runs stages on synthetic images, with the preparations of methods cut short."""

    meter: Meter = field(kw_only=True)

    def _load(self, name: str, split: str) -> ImageSet:
        """Return as many images as the real ones: overlapping windows of a row of noise."""
        if self.recipe.scale == "smoke":
            return SyntheticImages.like(super()._load(name, split), self.meter)
        size, data = self.recipe.image_size, source(name)
        if (count := data.official_count(split)) is None:
            raise DataError(
                f"the number of images in {name}/{split} is unknown; an estimate needs data with"
                " official counts, see 'datastill list data'"
            )
        shape, classes = (data.channels, size, size), data.num_classes or 2
        generator, pixels = torch.Generator().manual_seed(0), 7 * count + prod(shape)
        noise = torch.randint(256, (pixels,), dtype=torch.uint8, generator=generator)
        windows = noise.as_strided((count, *shape), (7, size * size, size, 1))
        normalizer = Normalizer((0.5,) * data.channels, (0.5,) * data.channels)
        labels, names = torch.arange(count) % classes, tuple(map(str, range(classes)))
        return SyntheticImages(
            f"{name}/{split}", windows, normalizer, labels, names, meter=self.meter
        )

    def _problem(self, spec: DistillationSpec, number: int, times: int = 1) -> Problem:
        """Return the problem; with `times` x few images if `init` takes time for each of them."""
        problem = replace(super()._problem(spec, number), cache=None)
        method, images = spec.method, problem.images
        if method.uses_full_source or (method.length(problem) and not method.short_preparations()):
            return problem
        few = min(times * max(FEW, problem.count), len(images))
        return replace(problem, images=images.take(torch.arange(few)))

    def _distill(self, stage: DistillationStage) -> None:
        """Distill; the cost of `init` is extrapolated from two short ones, one twice as long."""
        spec, number, problem = stage.spec, stage.number, self._problem(stage.spec, stage.number)
        pair = [(spec.method, problem), (spec.method, self._problem(spec, number, 2))]
        rounds = len(self.images) / len(problem.images)
        if short := spec.method.short_preparations():
            pair, rounds = [(method, problem) for method in short[:2]], rounds * short[2]
        if rounds > 1:
            first, second = (self.meter.cost(m.init, p, count=bool(short)) for m, p in pair)
            others = (rounds - 1) * np.maximum(second - first, 0.0)
            self.meter.skipped += others - first - second
        super()._distill(replace(stage, spec=replace(spec, method=pair[0][0])))

    def group(self, stage: Stage) -> object:
        """Return a key that stages of equal cost share, with the kind of targets."""
        if (
            isinstance(stage, EvaluationStage)
            and (spec := stage.spec)
            and not spec.method.uses_full_source
        ):
            target_kind = self._set(spec, 0).target_kind
            return stage.protocol, stage.network, target_kind, spec.count
        return _group(stage.name)


def estimate(recipe: Recipe, machine: Machine) -> dict[str, Cost]:
    """Estimate all stages of a recipe.

    Args:
        recipe: The recipe to be run.
        machine: The machine to run it on.

    Returns:
        The cost of each stage, by name.

    Raises:
        DataError: The size of some data set is unknown.
    """
    costs, measured, meter = {}, dict[object, Cost](), Meter(machine.device, recipe.probe_every)
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", NumericalWarning)  # of synthetic images
        runner = ShortRunner(Experiment(recipe, Path(folder), 0, machine), meter=meter)
        for name, stage in stages(recipe).items():
            if (group := runner.group(stage)) not in measured:
                logger.info(f"estimating {_group(name)}")
                _reset_peak_memory(machine.device)
                with contextlib.redirect_stderr(io.StringIO()), replaced_loop(meter.loop):
                    seconds, flop = meter.cost(runner.run, name).tolist()
                disk = sum(file.stat().st_size for file in Path(folder, name).rglob("*.*"))
                measured[group] = Cost(seconds, flop, peak_memory_bytes(), disk)
            costs[name] = measured[group]
    return costs


def estimate_table(recipe: Recipe, machine: Machine) -> str:
    """Return a table with a row per stage, where equal ones share a row, and the total.

    Args:
        recipe: The recipe to be run.
        machine: The machine to run it on.
    """
    started = time.monotonic()
    costs, groups = estimate(recipe, machine), dict[str, list[Cost]]()
    for name, cost in costs.items():
        groups.setdefault(_group(name), []).append(cost)
    rows = {}
    for name, equal_costs in [*groups.items(), ("total", list(costs.values()))]:
        cost, number = sum(equal_costs, Cost()), f"x{len(equal_costs)}" if name != "total" else ""
        amounts = f"{cost.disk / 2**20:.0f} MiB", f"{cost.flop / 1e12:.4g}", duration(cost.seconds)
        rows[name] = (number, *amounts, f"{cost.memory / 2**30:.1f} GiB")
    columns = ["", "disk", "TFLOP", "time", "memory"]
    lines = [pd.DataFrame.from_dict(rows, orient="index", columns=columns).to_string()]
    device = f"{torch.get_num_threads()} of {os.cpu_count()} CPU cores"
    if machine.device.startswith("cuda"):
        device = torch.cuda.get_device_name(machine.device)
    lines.append(
        f"This is an estimate from the first steps of each loop on {device} in {machine.precision}"
        f" (it took {time.monotonic() - started:.0f} s). Reading data sets is not in it."
    )
    if recipe.scale == "smoke":
        lines.append(
            "The smoke scale only tests that everything works: it is no hint at the full one."
        )
    return "\n".join([f"{recipe.name}, scale {recipe.scale}", *lines])


def _group(name: str) -> str:
    """Return the name of a stage without its number: equal stages differ in nothing else."""
    return re.sub(r"(?<=[-/])\d+(?=/|$)", "*", name)


def _reset_peak_memory(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    elif os.access(CLEAR_PEAK, os.W_OK):
        CLEAR_PEAK.write_text("5", encoding="ascii")
