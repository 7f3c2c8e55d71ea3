"""Seconds, operations and memory of a piece of work, measured small and extrapolated.

Operations are counted: multiplications and additions of matrix products, convolutions and
Cholesky factors. They are polynomials of the sizes and are extrapolated exactly. Seconds are noisy,
so only their straight line is; operations beyond it take their time at the measured rate.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from math import comb, prod

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from datastill.ground.machine import Machine

Sizes = Mapping[str, float]
BRIEF_SECONDS = 0.1  # what takes less is timed again
NOISE = 0.3  # a difference in seconds that no operation explains must be a larger share
LARGEST = 256  # of the small sizes
UNCOUNTED = 16  # times the least size, where no operations say how long it takes
DEGREE = {"count": 3}  # of operations in one size, else 2: a Cholesky factor is cubic


@dataclass(frozen=True)
class Cost:
    """What a piece of work takes."""

    seconds: float = 0.0
    flop: float = 0.0
    kept: float = 0.0  # bytes kept for the backward pass, at most; of a sum the larger

    def __add__(self, other: "Cost") -> "Cost":
        kept = max(self.kept, other.kept)
        return Cost(self.seconds + other.seconds, self.flop + other.flop, kept)

    def __sub__(self, other: "Cost") -> "Cost":
        seconds = max(0.0, self.seconds - other.seconds)
        return Cost(seconds, max(0.0, self.flop - other.flop), self.kept)

    def times(self, number: float) -> "Cost":
        """The same work, so often."""
        return Cost(self.seconds * number, self.flop * number, self.kept if number else 0.0)


Weigh = Callable[[Callable[[], object]], Cost]
Work = Callable[[Mapping[str, int], Weigh], Cost]  # weighs a piece of work of such sizes


def _cholesky(shape: tuple[int, ...], *_: object, **__: object) -> float:
    return prod(shape[:-1]) * shape[-1] ** 2 / 3  # rounded, it would be no polynomial


def _cholesky_solve(
    right: tuple[int, ...], factor: tuple[int, ...], *_: object, **__: object
) -> int:
    return 2 * prod(right) * factor[-1]


SOLVES = {
    torch.ops.aten.linalg_cholesky_ex: _cholesky,
    torch.ops.aten.cholesky_solve: _cholesky_solve,
}


@dataclass
class _Kept:
    """Counts the storages that are kept for the backward pass, each once."""

    holders: dict[int, int] = field(default_factory=dict)  # address -> how many hold it
    now: int = 0
    peak: int = 0

    def hold(self, storage: torch.UntypedStorage) -> None:
        self.holders[storage.data_ptr()] = self.holders.get(storage.data_ptr(), 0) + 1
        if self.holders[storage.data_ptr()] == 1:
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)

    def free(self, storage: torch.UntypedStorage) -> None:
        self.holders[storage.data_ptr()] -= 1
        if self.holders[storage.data_ptr()] == 0:
            self.now -= storage.nbytes()


class _Holder:
    """A saved tensor; it dies with the graph that saved it."""

    def __init__(self, tensor: Tensor, kept: _Kept) -> None:
        self.tensor, self.kept = tensor, kept
        kept.hold(tensor.untyped_storage())

    def __del__(self) -> None:
        self.kept.free(self.tensor.untyped_storage())


@dataclass(frozen=True)
class Meter:
    """Measures pieces of work on one machine; without a clock it counts, and seconds are 0."""

    machine: Machine
    clock: Callable[[], float] | None = time.perf_counter

    def count(self, run: Callable[[], object]) -> Cost:
        """Operations and memory; seconds are 0."""
        kept = _Kept()
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: _Holder(tensor, kept), lambda holder: holder.tensor
        )
        with FlopCounterMode(display=False, custom_mapping=SOLVES) as counter, hooks:
            run()
        return Cost(0.0, counter.get_total_flops(), kept.peak)

    def weigh(self, run: Callable[[], object]) -> Cost:
        """Seconds too, of the fastest of up to four runs after the one that is counted."""
        counted = self.count(run)
        if self.clock is None:
            return counted
        tries = [self._seconds(run)]
        while sum(tries) < BRIEF_SECONDS and len(tries) < 4:
            tries.append(self._seconds(run))
        return Cost(min(tries), counted.flop, counted.kept)

    def flop_per_second(self, number: torch.dtype, side: int = 768) -> float:
        """The rate of a product of matrices of such numbers."""
        a = torch.ones(side, side, dtype=number, device=self.machine.device)
        self._seconds(lambda: a @ a)
        seconds = min(self._seconds(lambda: a @ a) for _ in range(3))
        return 2 * side**3 / max(seconds, 1e-9)

    def _seconds(self, run: Callable[[], object]) -> float:
        assert self.clock is not None, "weigh asks first"
        self._wait()
        started = self.clock()
        run()
        self._wait()
        return self.clock() - started

    def _wait(self) -> None:
        if self.machine.device.startswith("cuda"):
            torch.cuda.synchronize(self.machine.device)


@dataclass(frozen=True)
class Scale:
    """Measures work at sizes that take about `seconds`, and says what it takes at full size."""

    meter: Meter
    rate: float  # FLOP/s in float64, as kernels are computed
    peak: float  # FLOP/s at most, of networks
    seconds: float = 0.05  # of one measured piece, about

    @staticmethod
    def of(meter: Meter) -> "Scale":
        """The scale of a machine, whose rates are measured; the least where nothing is timed."""
        if meter.clock is None:
            return Scale(meter, math.inf, math.inf, seconds=0.0)
        double = meter.flop_per_second(torch.float64)
        network = meter.flop_per_second(getattr(torch, meter.machine.precision))
        single = meter.flop_per_second(torch.float32)
        return Scale(meter, double, max(double, single, network))

    def full(self, work: Work, sizes: Sizes) -> Cost:
        """What the work takes at these sizes, from at least five smaller pieces of it."""
        return self.line(work, sizes).at(sizes)

    def line(self, work: Work, sizes: Sizes) -> "Extrapolation":
        """Measure around small sizes."""
        least = {axis: max(1, min(2, int(size))) for axis, size in sizes.items()}
        step = work(least, self.meter.count)  # warms up, too
        room = self.seconds and (self.seconds * self.rate / step.flop if step.flop else UNCOUNTED)
        small = {
            axis: max(least[axis], min(int(least[axis] * room), int(size) // 4, LARGEST))
            for axis, size in sizes.items()
        }
        return self._around(work, small)

    def _around(self, work: Work, small: dict[str, int]) -> "Extrapolation":
        def at(*axes: str) -> dict[str, int]:
            return {axis: size * (1 + axes.count(axis)) for axis, size in small.items()}

        count, weigh = self.meter.count, self.meter.weigh
        base = work(small, weigh)
        first = {axis: work(at(axis), weigh) for axis in small}
        powers = {
            axis: [base.flop, first[axis].flop]
            + [work(at(*[axis] * n), count).flop for n in range(2, DEGREE.get(axis, 2) + 1)]
            for axis in small
        }
        joint = {(a, b): work(at(a, b), count).flop for a, b in combinations(small, 2)}
        return Extrapolation(small, base, first, powers, joint, self)


@dataclass(frozen=True)
class Extrapolation:
    """Newton's forward differences around small sizes."""

    small: Mapping[str, int]
    base: Cost
    first: Mapping[str, Cost]  # with one size doubled
    powers: Mapping[str, list[float]]  # FLOP at 1, 2, ... times a size
    joint: Mapping[tuple[str, str], float]  # FLOP with two sizes doubled
    scale: Scale

    def at(self, sizes: Sizes) -> Cost:
        """What the work takes at other sizes."""
        steps = {axis: sizes[axis] / small - 1 for axis, small in self.small.items()}
        seconds = self.base.seconds + sum(steps[a] * self._slower(a) for a in steps)
        kept = self.base.kept + sum(steps[a] * (self.first[a].kept - self.base.kept) for a in steps)
        straight = self.base.flop + sum(
            steps[a] * (self.first[a].flop - self.base.flop) for a in steps
        )
        bent = sum(_newton(self.powers[a], steps[a]) for a in steps)
        bent += sum(
            steps[a] * steps[b] * (flop - self.first[a].flop - self.first[b].flop + self.base.flop)
            for (a, b), flop in self.joint.items()
        )
        seconds = self._sane(seconds, straight) + max(bent, 0.0) / self.scale.rate
        return Cost(seconds, max(straight + bent, 0.0), max(kept, 0.0))

    def _sane(self, seconds: float, flop: float) -> float:
        """Noise is bounded: no rate is above the peak, nor below that of the smaller work."""
        seen = [cost for cost in (self.base, *self.first.values()) if cost.flop and cost.seconds]
        slowest = [flop * cost.seconds / cost.flop for cost in seen]
        return max(min([seconds, *slowest]), flop / self.scale.peak, 0.0)

    def _slower(self, axis: str) -> float:
        """Seconds by which the work takes longer at the double size."""
        more = self.first[axis].seconds - self.base.seconds
        explained = self.first[axis].flop > self.base.flop
        return max(more, 0.0) if explained or more > NOISE * self.base.seconds else 0.0


def _newton(values: list[float], x: float) -> float:
    """Terms of second and higher degree of the polynomial through values at 0, 1, 2, ..."""
    total, binomial = 0.0, x
    for n in range(2, len(values)):
        binomial *= (x - n + 1) / n
        total += binomial * sum((-1) ** (n - k) * comb(n, k) * values[k] for k in range(n + 1))
    return total
