"""How much memory a run will take, before it starts: its real step, done on a few images.

Sizes are found by the names of options (`*batch`, `pool_size`, `syn_steps`), as for estimates.
"""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from datastill.ground.footprint import Footprint, footprint, unused_primes
from datastill.ground.machine import Machine
from datastill.ground.memory import available_bytes, require
from datastill.ground.rng import seeded
from datastill.ground.world import World
from datastill.images import ImageSet
from datastill.methods._base import AbstractMethod, Problem
from datastill.methods._pool import Member
from datastill.methods.krr_st import KRRST
from datastill.networks._base import AbstractArchitecture
from datastill.recipes._bank_phases import Banked, with_bank
from datastill.recipes._phases import ends, having, without_experts
from datastill.train_target import TargetTraining, train_target

CLASSES = 2  # of a tiny problem, where labels are balanced and classes are no loop
OF_DISTILLED = ("inner", "syn")  # names of batches that are drawn from the distilled images
OF_DISTILLED_FLAGS = tuple(f"--method.{name}" for name in OF_DISTILLED)
AT_ONCE = "at once"  # the size of what a network evaluates at once
WORTH_NAMING = 0.97  # of the peak: what is left, at most, when a size is halved

Sizes = dict[str, float]  # by flag


@dataclass(frozen=True)
class Forecast:
    """Bytes that a run will hold at most, beyond what was held when it was made."""

    bytes: float
    lower: tuple[str, ...]  # flags that would lower it, the best first

    @staticmethod
    def of(peak: Callable[[Sizes], float], full: Sizes) -> "Forecast":
        """The peak at full sizes, and what it would be at half of each."""
        whole = peak(full)
        halves = {flag: peak({**full, flag: size / 2}) for flag, size in full.items()}
        best = [flag for flag in sorted(halves, key=halves.__getitem__) if flag.startswith("--")]
        return Forecast(whole, tuple(f for f in best if halves[f] < WORTH_NAMING * whole))

    def check(self, work: str, device: str) -> None:
        """Refuse a run that clearly does not fit.

        Raises:
            MemoryShortError: it needs more than is there, by a margin.
        """
        lower = " or ".join(self.lower) or "the size of the network"
        require(self.bytes, available_bytes(device), work=work, lower=lower)


def of_distilling(method: AbstractMethod[Any], problem: Problem) -> Forecast | None:
    """What a distillation will take; None where it has no step that a few images can show."""
    if not method.length(problem):
        return None
    with _quietly() as found:
        distilling = _Distilling(method, problem)
        found.append(Forecast.of(distilling.peak, distilling.sizes))
    return found[0] if found else None


def of_training(images: ImageSet, training: TargetTraining, machine: Machine) -> Forecast | None:
    """What the training of a target model will take; None where a few images cannot show it."""
    with _quietly() as found:
        prime = next(unused_primes({*_sizes(training.architecture, images), images.num_classes}))
        few = images.take(torch.arange(prime) % len(images))
        short = replace(training, batch=prime, steps=2, standardize=False)
        done, _ = footprint(
            lambda: train_target(few, short, machine=_alone(machine)), {"--batch": prime}
        )
        full = {"--batch": training.batch / machine.world.size}
        found.append(Forecast.of(lambda s: done.peak({"--batch": s["--batch"] / prime}), full))
    return found[0] if found else None


@contextmanager
def _quietly() -> Iterator[list[Forecast]]:
    """Try what must not be felt: nothing is printed or drawn, and what fails is left to the run."""
    found: list[Forecast] = []
    with (
        seeded(0, "forecast"),
        warnings.catch_warnings(),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        with contextlib.suppress(Exception):
            yield found


def _sizes(
    architecture: AbstractArchitecture, images: ImageSet, outputs: int | None = None
) -> set[int]:
    """Every size of a network's parameters, and the number of all."""
    with torch.device("meta"):
        network = architecture(
            image_size=images.image_size, channels=images.channels, outputs=outputs
        )
    shapes = [parameter.shape for parameter in network.parameters()]
    return {size for shape in shapes for size in shape} | {sum(s.numel() for s in shapes)}


@dataclass(frozen=True, eq=False)
class _Tried:
    """One step with tiny sizes."""

    begin: Footprint  # of the state
    step: Footprint
    member: float  # bytes of an inner model in a pool, trained

    def peak(self, growth: Sizes) -> float:
        """Bytes at other sizes, but for further inner models and the bank."""
        return self.begin.left(growth) + self.step.peak(growth)


@dataclass(frozen=True, eq=False)
class _Distilling:
    """A method and its problem, and how both are made tiny.

    Where batches are of one class (`class_batch`), classes are a loop and the count is that of one
    class. What a loop takes is linear in its length.
    """

    method: AbstractMethod[Any]
    problem: Problem

    @cached_property
    def sizes(self) -> Sizes:
        """In full; batches of distilled images first."""
        problem = self.problem
        classes = problem.images.num_classes if self.by_each_class else 1
        syn, real = self._batches()
        lengths = ends(self.method, "syn_steps", "pool_size")
        sizes = {**syn, **real, "--count": problem.count / classes}
        sizes |= {_flag(name): length for name, length in lengths.items()}
        at_once = problem.machine.images_at_once(problem.images.image_size**2)
        sizes[AT_ONCE] = min(at_once, max(real.values(), default=problem.count))
        return {**sizes, "classes": classes} if self.by_each_class else sizes

    @cached_property
    def by_each_class(self) -> bool:
        """Whether batches are of one class."""
        return bool(ends(self.method, "class_batch"))

    def peak(self, sizes: Sizes) -> float:
        """Bytes at any sizes."""
        growth = {flag: sizes[flag] / tiny for flag, tiny in self._tiny.items()}
        once = self._once.peak(growth)
        further = (sizes.get(_flag("pool_size"), 1) - 1) * self._once.member
        if loop := next((x for x in ("classes", _flag("syn_steps")) if x in sizes), None):
            once += (sizes[loop] - 1) * (self._twice.peak(growth) - once)
        return once + further + self._bank

    @property
    def _bank(self) -> float:
        """Bytes of target representations that are kept in memory, not in a file."""
        method, problem = self.method, self.problem
        if not isinstance(method, KRRST) or method.bank == "off" or problem.cache is not None:
            return 0.0
        return Banked(method, len(problem.images), problem.needed_target.dim).nbytes

    def _batches(self) -> tuple[Sizes, Sizes]:
        """(of distilled images, of real ones); not those that take all that there is."""
        problem = self.problem
        there = max(map(len, problem.by_class)) if self.by_each_class else len(problem.images)
        sizes = {k: v for k, v in ends(self.method, "batch").items() if v and k[:6] != "expert"}
        syn = {k: v for k, v in sizes.items() if k.startswith(OF_DISTILLED)}
        real = {_flag(k): min(v, there) for k, v in sizes.items() if k not in syn}
        return {_flag(k): v for k, v in syn.items() if v < problem.count}, real

    @cached_property
    def _primes(self) -> dict[str, int]:
        """Of what grows, and of the source images."""
        problem = self.problem
        fixed = _sizes(problem.network, problem.images, CLASSES)
        if problem.target is not None:
            weights = problem.target.module.state_dict().values()
            fixed |= {size for value in weights for size in value.shape}
        grows = [flag for flag in self.sizes if flag.endswith("batch")]
        grows = [AT_ONCE, *grows, "--count"]  # the least first, so that batches are larger
        return dict(zip((*grows, "images"), unused_primes(fixed), strict=False))

    @cached_property
    def _tiny(self) -> dict[str, int]:
        """Multiples of primes; as many images of each class where labels are balanced."""
        unit = CLASSES if self.method.by_class and not self.by_each_class else 1
        units = {flag: 1 if flag.startswith(OF_DISTILLED_FLAGS) else unit for flag in self._primes}
        return {flag: units[flag] * p for flag, p in self._primes.items() if flag != "images"}

    @cached_property
    def _once(self) -> _Tried:
        return self._tried(1)

    @cached_property
    def _twice(self) -> _Tried:
        return self._tried(2)

    def _tried(self, turns: int) -> _Tried:
        method, problem = self._tiny_method(turns), self._tiny_problem(turns)
        primes = {flag: self._primes[flag] for flag in self._tiny}
        begin, state = footprint(lambda: method.init(problem), primes)
        step, _ = footprint(lambda: method.step(problem, state), primes)
        pool = vars(state).get("members", [])
        return _Tried(begin, step, sum(map(_member_bytes, pool)))

    def _tiny_method(self, turns: int) -> AbstractMethod[Any]:
        """With tiny batches and short loops, and without a whitening that takes long to fit."""
        method = with_bank(without_experts(self.method), "off")
        batches = {_name(flag): size for flag, size in self._tiny.items() if _is_option(flag)}
        short = {"age": 2, "inner_epochs": 0, "pool_size": 1, "zca": False, "syn_steps": turns}
        lengths = {name: v for end, v in short.items() for name in ends(method, end)}
        return having(method, {**batches, **lengths})

    def _tiny_problem(self, turns: int) -> Problem:
        """A few images, of a few classes where labels are balanced."""
        images, number = self.problem.images, self._primes["images"]
        machine = _alone(self.problem.machine)
        machine = replace(machine, pixels_at_once=self._tiny[AT_ONCE] * images.image_size**2)
        target = self.problem.target
        classes = turns if self.by_each_class else CLASSES
        if not self.method.by_class:
            few, classes = images.take(torch.arange(number) % len(images)), 1
        else:
            few = _of_classes(self.problem, classes, number)
        count = self._tiny["--count"] * (classes if self.by_each_class else 1)
        return replace(
            self.problem,
            images=few,
            target=target and replace(target, machine=machine),
            count=count,
            machine=machine,
            banks={},
            whitenings={},
            experts={},
            cache=None,
        )


def _alone(machine: Machine) -> Machine:
    """Without other ranks, which would wait for an answer."""
    return replace(machine, world=World())


def _of_classes(problem: Problem, classes: int, number: int) -> ImageSet:
    """So many images of each class, again and again where there are not so many."""
    of_each = [problem.by_class[k % len(problem.by_class)] for k in range(classes)]
    index = torch.cat([known[torch.arange(number) % len(known)] for known in of_each])
    labels = torch.arange(classes).repeat_interleave(number)
    names = tuple(map(str, range(classes)))
    images = problem.images
    return ImageSet(images.name, images.images[index], images.normalizer, labels, names)


def _member_bytes(member: Member) -> int:
    """An inner model with its gradients and momenta."""
    weights = list(member.model.parameters())
    moments = [x for state in member.optimizer.state.values() for x in state.values()]
    held = [*weights, *(p.grad for p in weights), *member.model.buffers(), *moments]
    return sum(x.nbytes for x in held if isinstance(x, Tensor))


def _is_option(flag: str) -> bool:
    return flag.startswith("--method.")


def _flag(name: str) -> str:
    return f"--method.{name}"


def _name(flag: str) -> str:
    return flag.removeprefix("--method.")
