"""Work on a GPU that is recorded once and repeated from then on, in one launch: CUDA graphs.

What is repeated are the operations on the device, on the very tensors on which they were recorded.
What the host did beside them (numbers, branches, looks at values) stays as it was.
"""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

Tensors = tuple[Tensor, ...]
Work = Callable[..., Tensors]

_recording = ContextVar("recording", default=False)


def recording() -> bool:
    """Whether what is done now is only recorded: no value can be looked at."""
    return _recording.get()


@dataclass(frozen=True, eq=False)
class Recording:
    """Calling it repeats the work on new inputs, of the shapes that it was recorded with."""

    inputs: Tensors
    outputs: Tensors
    replay: Callable[[], None]

    @staticmethod
    def of(work: Work, given: Tensors, pool: Any) -> "Recording":
        """Record `work` without doing it."""
        inputs = tuple(x.detach().clone().requires_grad_(x.requires_grad) for x in given)
        token = _recording.set(True)
        try:
            outputs, replay = record(lambda: work(*inputs), inputs[0].device, pool)
        finally:
            _recording.reset(token)
        return Recording(inputs, outputs, replay)

    @torch.no_grad()
    def __call__(self, *given: Tensor) -> Tensors:
        for kept, new in zip(self.inputs, given, strict=True):
            kept.copy_(new)
        self.replay()
        return tuple(x.clone() for x in self.outputs)  # the next replay writes over them


@dataclass(eq=False)
class Graphs:
    """Recordings of work on models; of none unless it is `active`.

    The tensors of a model, and their gradients, must stay where they are for as long as it lives.
    """

    active: bool = False
    known: WeakKeyDictionary[nn.Module, dict[object, Recording | None]] = field(
        default_factory=WeakKeyDictionary
    )
    pool: Any = None  # memory that all recordings share, as no two are repeated at once

    def __call__(
        self, name: str, work: Work, model: nn.Module, *inputs: Tensor, redo: bool = False
    ) -> Tensors:
        """`work(*inputs)`: the first time it is done, the second time recorded, then repeated.

        The first time makes what lasts, such as gradients. Inputs of other shapes have a recording
        of their own. With `redo`, work whose first output is not finite is done once more,
        unrecorded, so that it can look at values and mend or explain them: work that changes
        nothing.
        """
        if not self.active:
            return work(*inputs)
        recordings = self.known.setdefault(model, {})
        key = (name, *(x.shape for x in inputs))
        if key not in recordings:
            recordings[key] = None
            return work(*inputs)
        if (recorded := recordings[key]) is None:
            self.pool = self.pool or new_pool()
            recorded = recordings[key] = Recording.of(work, inputs, self.pool)
        outputs = recorded(*inputs)
        return work(*inputs) if redo and not bool(outputs[0].isfinite()) else outputs


def new_pool() -> Any:
    """Memory for recordings."""
    return torch.cuda.graph_pool_handle()


def record(
    work: Callable[[], Tensors], device: torch.device, pool: Any
) -> tuple[Tensors, Callable[[], None]]:
    """The tensors that will be filled, and what fills them."""
    graph = torch.cuda.CUDAGraph()
    with (
        torch.cuda.device(device),  # whose stream is recorded
        torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"),
    ):
        outputs = work()
    return outputs, graph.replay
