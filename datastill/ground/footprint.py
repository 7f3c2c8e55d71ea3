"""The memory that a piece of work takes at full size, found by doing it once at a tiny one.

Every size that matters, such as the number of images in a batch, is replaced by a small prime that
divides no other size. A tensor whose first dimension is a multiple of that prime then grows with
the size, ones before it left aside (instance norm sees a batch of one); so what was allocated and
freed can be replayed on paper at any size. Scratch memory inside one operation is not seen.
"""

import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PRIMES = (5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61)
FLAT = 2  # tensors of more dimensions, such as images, grow in the first one alone

Done = TypeVar("Done")
Growth = Mapping[str, float]  # how many times larger each size is in full


def unused_primes(sizes: Collection[int]) -> Iterator[int]:
    """Small primes that divide neither a size nor its successor (features and a bias)."""
    return (p for p in PRIMES if all(size % p and (size + 1) % p for size in sizes))


@dataclass(eq=False)
class _Storage:
    """What is known about one allocation."""

    nbytes: int
    powers: dict[str, int]  # of each size

    def at(self, growth: Growth) -> float:
        """Bytes at other sizes."""
        return self.nbytes * prod(growth[name] ** power for name, power in self.powers.items())


@dataclass(frozen=True)
class Footprint:
    """What a piece of work allocated and freed, in order."""

    events: list[tuple[_Storage, bool]]  # (what, whether it came or went)

    def left(self, growth: Growth) -> float:
        """Bytes that were still held when the work was done."""
        return sum(storage.at(growth) for storage in self._left())

    def peak(self, growth: Growth) -> float:
        """The most bytes that are held at once, of those that the work allocates.

        What is left at the end, such as momenta, counts from the beginning: it is there when the
        same work is done again.
        """
        left = self._left()
        now = peak = self.left(growth)
        for storage, came in self.events:
            if storage not in left:
                now += storage.at(growth) if came else -storage.at(growth)
                peak = max(peak, now)
        return peak

    def _left(self) -> set[_Storage]:
        gone = {storage for storage, came in self.events if not came}
        return {storage for storage, _ in self.events} - gone


def footprint(work: Callable[[], Done], tiny: Mapping[str, int]) -> tuple[Footprint, Done]:
    """Do the work, whose sizes are multiples of these primes; note what it allocates.

    What it returns counts as left at the end.
    """
    recorder = _Recorder(tiny)
    with recorder:
        done = work()
    return Footprint(list(recorder.events)), done


@dataclass(eq=False)
class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every tensor that an operation gives, and when its memory is let go."""

    tiny: Mapping[str, int]
    events: list[tuple[_Storage, bool]] = field(default_factory=list)
    known: dict[int, weakref.ref[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {id(x.untyped_storage()) for x in tree_leaves((args, kwargs)) if _is_here(x)}
        for tensor in tree_leaves(out):
            if _is_here(tensor) and id(tensor.untyped_storage()) not in given:
                self._note(tensor)
        return out

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if id(storage) in self.known:
            return
        found = _Storage(storage.nbytes(), self._powers(tensor.shape))
        self.events.append((found, True))

        def freed(_: object, key: int = id(storage)) -> None:
            self.known.pop(key, None)
            self.events.append((found, False))

        self.known[id(storage)] = weakref.ref(storage, freed)

    def _powers(self, shape: torch.Size) -> dict[str, int]:
        sizes = shape if len(shape) <= FLAT else [s for s in shape if s > 1][:1]
        powers = {name: sum(s > 0 and s % p == 0 for s in sizes) for name, p in self.tiny.items()}
        return {name: power for name, power in powers.items() if power}


def _is_here(x: object) -> bool:
    return isinstance(x, Tensor) and x.device.type != "meta"
