"""What steps of KRR-ST and of fine-tuning would take on a GPU that is not at hand, by a roofline.

python benchmarks/speed/predicted.py --count 1000 --batch 1024 --out predicted.csv

One step with a warm bank, and one with none, is done here, and each operation noted with the
numbers that it multiplies and the bytes that it reads and writes. It cannot be faster there than
its multiplications at the matrix rate, than its bytes at the memory's rate, or than the host
launches it; the last is left out where the operation is in a recording (--graphs true). The default
rates are of one H200; the notes of the record say whose they are.
"""

import argparse
import csv
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from outer_step import problem, started
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, shape_wrapper

import datastill as ds
from datastill.augment.crop_flip import CropFlip
from datastill.batches import Batches
from datastill.ground.graphs import Graphs, Tensors, Work
from datastill.ground.machine import Machine
from datastill.ground.rng import fork
from datastill.maths.optimizers import Sgd
from datastill.networks._learner import Learner
from datastill.transfer._supervised import Supervised, SupervisedState


def _cholesky(shape: tuple[int, ...], *_: object, **__: object) -> float:
    return prod(shape[:-1]) * shape[-1] ** 2 / 3


def _cholesky_solve(
    right: tuple[int, ...], factor: tuple[int, ...], *_: object, **__: object
) -> int:
    return 2 * prod(right) * factor[-1]


SOLVES = {
    torch.ops.aten.linalg_cholesky_ex: _cholesky,
    torch.ops.aten.cholesky_solve: _cholesky_solve,
}
COUNTED = flop_registry | {name: shape_wrapper(flop) for name, flop in SOLVES.items()}
OUTER_STEPS = 160_000  # of the CIFAR-100 recipe
TABLE_STEPS = 9 * 3 * (2 * 10_000 + 5 * 5_000)  # rows, seeds, target data of Table 1
_recorded = ContextVar("recorded", default=False)


@dataclass(frozen=True)
class Gpu:
    """What bounds an operation."""

    bfloat16: float  # FLOP/s
    float64: float  # FLOP/s, of float32 too
    bandwidth: float  # bytes/s
    launch: float  # seconds

    def seconds(self, operation: "Operation", *, graphs: bool = False) -> float:
        """At least."""
        rate = self.bfloat16 if operation.number == torch.bfloat16 else self.float64
        launch = 0 if graphs and operation.recorded else self.launch
        return max(operation.flop / rate, operation.nbytes / self.bandwidth, launch)


@dataclass(frozen=True)
class Operation:
    """One that computes; views are none."""

    name: str
    number: torch.dtype
    flop: float
    nbytes: int  # read and written
    recorded: bool  # whether it is in a recording where there are any


@dataclass(eq=False)
class Noting(TorchDispatchMode):
    """Notes the operations that are done under it."""

    done: list[Operation] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        read, written = (
            [x for x in tree_leaves(tree) if isinstance(x, torch.Tensor)]
            for tree in ((args, kwargs), out)
        )
        nbytes = sum(x.nbytes for x in (*read, *written))
        if not func.is_view and nbytes:
            flop = COUNTED.get(func.overloadpacket)
            counted = flop(*args, **(kwargs or {}), out_val=out) if flop else 0
            number = next((x.dtype for x in written if x.is_floating_point()), torch.uint8)
            self.done.append(Operation(str(func), number, counted, nbytes, _recorded.get()))
        return out


class Marking(Graphs):
    """Records nothing, and marks what would be recorded; inputs and outputs are copied as there."""

    def __call__(
        self, name: str, work: Work, model: nn.Module, *inputs: Tensor, **_: bool
    ) -> Tensors:
        for x in inputs:
            x.detach().clone()
        token = _recorded.set(True)
        outputs = work(*inputs)
        _recorded.reset(token)
        return tuple(x.clone() for x in outputs)


def operations(step: Callable[[], object]) -> list[Operation]:
    with Noting() as noting:
        step()
    return noting.done


def steps(count: int, batch: int) -> dict[str, Callable[[], object]]:
    """A step with a bank that knows all it is asked, one without, and one of fine-tuning."""
    machine = Machine("cpu", "bfloat16", pixels_at_once=2**62)  # whole batches, as on a GPU
    of = problem(32, count, machine)
    vars(of)["graphs"] = Marking()  # in place of the cached property
    cold = ds.KRRST(outer_batch=batch, bank="off")
    warm = replace(cold, bank="lazy")
    first, again, other = (started(method, of) for method in (warm, warm, cold))
    for state in (again, other):
        all_tensors_at_once(state.optimizer, *(member.optimizer for member in state.members))
    for method, state in ((warm, first), (warm, first), (warm, again), (cold, other)):
        method.step(of, state)  # what is counted is a second step: there are momenta, and a bank
    return {
        "warm bank": lambda: warm.step(of, again),
        "no bank": lambda: cold.step(of, other),
        "fine-tuning": finetuning_step(of),
    }


def finetuning_step(of: ds.Problem) -> Callable[[], object]:
    """By the paper's protocol: 256 images, cropped and flipped."""
    images = replace(of.images, labels=torch.arange(len(of.images)) % 100)
    network = of.machine.place(ds.ConvNet()(image_size=32, channels=3, outputs=100))
    training = Supervised(2, 256, Sgd(0.01, 0.9, 5e-4), CropFlip())
    optimizer = training.optimizer.make(network.parameters())
    all_tensors_at_once(optimizer)
    batches = Batches.over(len(images), fork(0, "batches"))
    state = SupervisedState(network, optimizer, batches, fork(0, "views"))
    learner = Learner(network, optimizer, F.cross_entropy, of.machine, Marking())
    training._step(learner, state, images, 0)  # the momenta are made
    return lambda: training._step(learner, state, images, 1)


def all_tensors_at_once(*optimizers: torch.optim.Optimizer) -> None:
    """As torch updates them on a GPU by itself."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["foreach"] = True


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--bfloat16", type=float, default=790e12, help="FLOP/s")
    parser.add_argument("--float64", type=float, default=55e12, help="FLOP/s")
    parser.add_argument("--bandwidth", type=float, default=4.8e12, help="bytes/s")
    parser.add_argument("--launch", type=float, default=5e-6, help="seconds per operation")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    gpu = Gpu(given.bfloat16, given.float64, given.bandwidth, given.launch)
    rows = []
    for name, step in steps(given.count, given.batch).items():
        done, length = operations(step), TABLE_STEPS if name == "fine-tuning" else OUTER_STEPS
        eager, graph = (sum(gpu.seconds(x, graphs=on) for x in done) for on in (False, True))
        rows.append(
            {
                "step": name,
                "operations": len(done),
                "recorded": sum(x.recorded for x in done),
                "tflop": round(sum(x.flop for x in done) / 1e12, 3),
                "gigabytes": round(sum(x.nbytes for x in done) / 1e9, 2),
                "eager_ms": round(1e3 * eager, 2),
                "graph_ms": round(1e3 * graph, 2),
                "steps": length,
                "eager_minutes": round(length * eager / 60, 1),
                "graph_minutes": round(length * graph / 60, 1),
            }
        )
        print(*(f"{k}: {v}" for k, v in rows[-1].items()), sep=", ")
        for x in sorted(done, key=gpu.seconds, reverse=True)[:12]:
            print(f"  {1e3 * gpu.seconds(x):.3f} ms {x.name} {x.number} {x.nbytes / 1e6:.0f} MB")
    if given.out:
        with given.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
