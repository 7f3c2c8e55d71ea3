"""The least time that work can take, by a roofline.

An operation cannot be faster than its multiplications at the machine's matrix rate, its bytes at
the rate of the memory, or its launch by the host.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, shape_wrapper

ATEN = torch.ops.aten
SOLVES = {  # which torch does not count
    ATEN.linalg_cholesky_ex: shape_wrapper(lambda a, *_, **__: a[0] ** 3 / 3),
    ATEN.cholesky_solve: shape_wrapper(lambda b, a, *_, **__: 2 * a[0] ** 2 * b[1]),
}
FLOPS = flop_registry | SOLVES


@dataclass(frozen=True)
class Rates:
    """What a machine can do at most, by measurement."""

    bfloat16: float  # FLOP/s of matrix products
    float64: float  # FLOP/s, taken for float32 too
    bandwidth: float  # bytes/s, read and written
    launch: float  # seconds per operation

    def least_seconds(self, work: Callable[[], object]) -> float:
        """Run `work` once and return the least time that its operations can take here."""
        with _Counting(self) as counting:
            work()
        return counting.seconds


class _Counting(TorchDispatchMode):
    def __init__(self, rates: Rates) -> None:
        super().__init__()
        self.rates, self.seconds = rates, 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        written = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        read = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if func.is_view or not (written or read):
            return out
        count = FLOPS.get(func.overloadpacket)
        flop = count(*args, **(kwargs or {}), out_val=out) if count else 0
        half = any(x.dtype == torch.bfloat16 for x in written)
        rate = self.rates.bfloat16 if half else self.rates.float64
        nbytes = sum(x.nbytes for x in (*read, *written))
        self.seconds += max(flop / rate, nbytes / self.rates.bandwidth, self.rates.launch)
        return out
