"""The ranks (processes) that compute together, and the messages between them.

Every rank has the same state: all draw the same batch, each computes a share of it, and gradients
are averaged over ranks, so that updates are equal. What the first rank saves is the state of all,
and another number of ranks can continue from it.

The loss of all ranks is the mean of their losses. `gather` passes gradients back accordingly: each
rank gets the sum over all ranks' losses of the gradient of its own rows. Where all ranks compute
one loss on the gathered rows, the average over ranks is then the gradient of one process on the
joined batch. (Without that sum it is too small by 1 / size.)
"""

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.distributed.nn.functional  # if first imported in a group, it keeps it alive
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from datastill.core.errors import ConfigError, RankFailureError

TIMEOUT_SECONDS = 60.0  # of a collective, after which another rank counts as failed


@dataclass(frozen=True)
class Ranks:
    """One of `size` processes that compute together; with one process, collectives do nothing.

    Args:
        rank: Number of this process, from 0.
        size: Number of processes.
        local: Number among the processes of this host, hence of the GPU.
    """

    rank: int = 0
    size: int = 1
    local: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ConfigError(f"rank {self.rank} of {self.size} ranks: expected 0 to size - 1")

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, which writes files and logs."""
        return self.rank == 0

    def shard(self, rows: Tensor) -> Tensor:
        """Return this rank's part of the rows that all ranks have; sizes differ by one at most.

        With fewer rows than ranks every rank takes all of them: a mean over no rows is undefined.
        """
        if self.size == 1 or len(rows) < self.size:
            return rows
        return rows.tensor_split(self.size)[self.rank]

    def gather(self, rows: Tensor, *, dim: int = 0) -> Tensor:
        """Return the rows of all ranks, one after the other along `dim`; differentiable.

        Every rank must pass a tensor of the same shape, and take part in the backward pass.
        """
        if self.size == 1:
            return rows
        parts: Tensor = _Gather.apply(rows, self)  # type: ignore[no-untyped-call]
        return torch.cat(parts.unbind(), dim)

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor], *, rows: int = 1) -> list[Tensor]:
        """Return the mean of each tensor over all ranks, in one all-reduce, without gradient.

        Ranks are weighted by `rows`: means over shares become the mean over the joined batch.
        """
        if self.size == 1:
            return list(tensors)
        dtype = functools.reduce(torch.promote_types, (x.dtype for x in tensors))
        flat = torch.cat([x.flatten().to(dtype) for x in tensors])
        total = torch.cat([rows * flat, flat.new_full((1,), rows)])
        dist.all_reduce(total, dist.ReduceOp.SUM)
        parts = (total[:-1] / total[-1]).split_with_sizes([x.numel() for x in tensors])
        return [part.view(x.shape).to(x) for part, x in zip(parts, tensors, strict=True)]

    def all_reduce_max(self, numbers: Sequence[int]) -> list[int]:
        """Return the largest of each number over all ranks."""
        if self.size == 1:
            return list(numbers)
        total = torch.tensor(numbers)
        dist.all_reduce(total, dist.ReduceOp.MAX)
        return [int(n) for n in total]

    def barrier(self) -> None:
        """Wait until all ranks have reached this call."""
        self.all_reduce_max([0])

    def check_equal(self, number: int, name: str) -> None:
        """Check that all ranks have the same number.

        Raises:
            ConfigError: They do not; the message has `name` and the smallest and largest number.
        """
        highest, lowest = self.all_reduce_max([number, -number])
        if highest != -lowest:
            raise ConfigError(
                f"ranks differ in {name} ({-lowest} to {highest}); give an --out folder that all of"
                " them can read, and the same program and data to each"
            )


class _Gather(torch.autograd.Function):
    """(size, ...) from the ranks' tensors; its gradient is summed over ranks."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks  # type: ignore[attr-defined]
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(ranks.size)]
        dist.all_gather(parts, rows)
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].contiguous()
        dist.all_reduce(total, dist.ReduceOp.SUM)
        return total[ctx.ranks.rank], None  # type: ignore[attr-defined]


@contextmanager
def init_ranks(
    device: str = "cpu",
    environment: Mapping[str, str] | None = None,
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Iterator[Ranks]:
    """Join the ranks that `torchrun` started, until the block ends; without it there is one rank.

    On GPUs (`device` other than cpu, where there are any) gradients go by NCCL, the rest by gloo.

    Raises:
        ConfigError: The environment has an impossible rank or size.
        RankFailureError: Another rank has died, or does not answer for `timeout_seconds`.
    """
    ranks = _ranks_of(os.environ if environment is None else environment)
    if ranks.size == 1:
        yield ranks
        return
    gpu, timeout = device != "cpu" and torch.cuda.is_available(), timedelta(0, timeout_seconds)
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if gpu else "gloo",
            rank=ranks.rank,
            world_size=ranks.size,
            timeout=timeout,
            store=_store(ranks, timeout),
        )
        yield ranks
    except RuntimeError as error:
        if not (
            isinstance(error, dist.DistError) or "gloo" in str(error)
        ):  # gloo's errors have no class
            raise
        raise RankFailureError(
            f"rank {ranks.rank} of {ranks.size}: another rank has died or did not answer for"
            f" {timeout_seconds:.0f} s; see its message. --resume continues from the last"
            " checkpoint, on any number of ranks"
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _store(ranks: Ranks, timeout: timedelta) -> PrefixStore:
    """Return the store by which ranks find each other.

    torchrun keeps one store over its restarts. Each restart needs names of its own, or ranks would
    wait for those that have died.
    """
    store, *_ = next(iter(rendezvous("env://", ranks.rank, ranks.size, timeout=timeout)))
    return PrefixStore(f"start-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def _ranks_of(environment: Mapping[str, str]) -> Ranks:
    defaults = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    values = {name: environment.get(name, default) for name, default in defaults.items()}
    settings = ", ".join(f"{name}={value}" for name, value in values.items())
    if not all(value.isdigit() for value in values.values()):
        raise ConfigError(
            f"{settings} must be numbers; start many ranks with torchrun, which sets them"
        )
    rank, size, local = map(int, values.values())
    if size > 1 and "MASTER_ADDR" not in environment:
        raise ConfigError(
            f"{settings} are set, but not by torchrun (MASTER_ADDR is missing); start many ranks"
            " with torchrun, or unset WORLD_SIZE for a single process"
        )
    return Ranks(rank, size, local)
