"""The ranks that compute together, and the few things that they tell each other.

Every rank has the same state: all draw the same batch and each takes its share of it, gradients are
averaged over ranks, so updates are equal. What one rank has saved is everybody's, and another
number of ranks can go on from there.

The loss of a world is the mean of its ranks' losses. `gather` passes gradients back accordingly:
each rank gets the sum over all ranks' losses of the gradient of its own rows. Where all ranks
compute one loss on the gathered rows, the average over ranks is then the gradient of one process on
the joined batch. (Without that sum it is too small by 1 / size.)
"""

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.distributed.nn.functional  # later, through an optimizer, it would keep the group alive
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from datastill.ground.errors import ConfigError, RankLostError

PATIENCE_SECONDS = 60.0  # a rank that does not answer for so long is taken for dead


@dataclass
class Traffic:
    """What this rank has brought into messages so far; those of backward passes included."""

    messages: int = 0
    bytes: int = 0

    def count(self, tensor: Tensor) -> None:
        """Another message."""
        self.messages += 1
        self.bytes += tensor.numel() * tensor.element_size()


@dataclass(frozen=True)
class World:
    """One of `size` ranks; a single process is a world of one, in which all of this is nothing."""

    rank: int = 0
    size: int = 1
    local: int = 0  # number among the ranks of this host, hence of the GPU
    traffic: Traffic = field(default_factory=Traffic, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ConfigError(f"rank {self.rank} of a world of {self.size}: expected 0 to size - 1")

    @property
    def writes(self) -> bool:
        """Whether this rank writes files and speaks: the first one does."""
        return self.rank == 0

    def share(self, rows: Tensor) -> Tensor:
        """This rank's part of the rows that all ranks have, in order; parts differ by one at most.

        Where there are fewer rows than ranks, each takes them all: no mean is of nothing.
        """
        if self.size == 1 or len(rows) < self.size:
            return rows
        return rows.tensor_split(self.size)[self.rank]

    def gather(self, rows: Tensor, *, dim: int = 0) -> Tensor:
        """The rows of all ranks, one after the other along `dim`; differentiable.

        Every rank must bring a tensor of the same shape, and take part in the backward pass.
        """
        if self.size == 1:
            return rows
        parts: Tensor = _Gathered.apply(rows, self)  # type: ignore[no-untyped-call]
        return torch.cat(parts.unbind(), dim)

    @torch.no_grad()
    def mean(self, tensors: Sequence[Tensor], *, rows: int = 1) -> list[Tensor]:
        """The mean of each tensor over all ranks, in one message, without gradient.

        A rank counts as often as it has `rows`: means over shares become that of the joined batch.
        """
        if self.size == 1:
            return list(tensors)
        dtype = functools.reduce(torch.promote_types, (x.dtype for x in tensors))
        flat = torch.cat([x.flatten().to(dtype) for x in tensors])
        counted = torch.cat([rows * flat, flat.new_full((1,), rows)])  # filled there, not sent
        total = self._reduced(counted, dist.ReduceOp.SUM)
        parts = (total[:-1] / total[-1]).split_with_sizes([x.numel() for x in tensors])
        return [part.view(x.shape).to(x) for part, x in zip(parts, tensors, strict=True)]

    def largest(self, numbers: Sequence[int]) -> list[int]:
        """The largest of each number among all ranks."""
        if self.size == 1:
            return list(numbers)
        return [int(n) for n in self._reduced(torch.tensor(numbers), dist.ReduceOp.MAX)]

    def wait(self) -> None:
        """Until all ranks have come here."""
        self.largest([0])

    def agree(self, number: int, what: str) -> None:
        """Ask whether all ranks have the same number.

        Raises:
            ConfigError: they do not; `what` says of what.
        """
        highest, lowest = self.largest([number, -number])
        if highest != -lowest:
            raise ConfigError(
                f"ranks differ in {what} ({-lowest} to {highest}); give an --out folder that all of"
                " them can read, and the same program and data to each"
            )

    def _reduced(self, total: Tensor, how: dist.ReduceOp.RedOpType) -> Tensor:
        self.traffic.count(total)
        dist.all_reduce(total, how)
        return total


class _Gathered(torch.autograd.Function):
    """(size, ...) from the ranks' tensors; its gradient is summed over ranks."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor, world: World) -> Tensor:
        ctx.world = world  # type: ignore[attr-defined]
        world.traffic.count(rows)
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(world.size)]
        dist.all_gather(parts, rows)
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        world: World = ctx.world  # type: ignore[attr-defined]
        total = world._reduced(gradients[0].contiguous(), dist.ReduceOp.SUM)
        return total[world.rank], None


@contextmanager
def joined_world(
    device: str = "cpu",
    environment: Mapping[str, str] | None = None,
    *,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Iterator[World]:
    """The world that `torchrun` started this process in, until the block ends; else a world of one.

    On GPUs (`device` other than cpu, where there are any) gradients go by NCCL, the rest by gloo.

    Raises:
        ConfigError: the environment names a rank or a size that cannot be.
        RankLostError: another rank has died, or does not answer for `patience_seconds`.
    """
    world = _named_by(os.environ if environment is None else environment)
    if world.size == 1:
        yield world
        return
    gpu, patience = device != "cpu" and torch.cuda.is_available(), timedelta(0, patience_seconds)
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if gpu else "gloo",
            rank=world.rank,
            world_size=world.size,
            timeout=patience,
            store=_store(world, patience),
        )
        yield world
    except RuntimeError as error:
        if not _is_of_a_message(error):
            raise
        raise RankLostError(
            f"rank {world.rank} of {world.size} hears nothing of another one, which has died or did"
            f" not answer for {patience_seconds:.0f} s; its own message says why. The last"
            " checkpoint is unharmed; --resume continues from it, on any number of ranks"
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _store(world: World, patience: timedelta) -> PrefixStore:
    """Where ranks find each other. torchrun keeps one over its restarts: each has its own names,
    or ranks would call on those that have died.
    """
    found, *_ = next(iter(rendezvous("env://", world.rank, world.size, timeout=patience)))
    return PrefixStore(f"start-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", found)


def _named_by(environment: Mapping[str, str]) -> World:
    known = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    words = {name: environment.get(name, default) for name, default in known.items()}
    if not all(word.isdigit() for word in words.values()):
        said = ", ".join(f"{name}={word}" for name, word in words.items())
        raise ConfigError(
            f"{said} must be numbers; start many ranks with torchrun, which sets them"
        )
    rank, size, local = map(int, words.values())
    return World(rank, size, local)


def _is_of_a_message(error: RuntimeError) -> bool:
    """Whether it tells that a message could not be sent or received: gloo has no class for that."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)
