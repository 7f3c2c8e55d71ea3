"""A network that learns from one batch after another."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.optim import Optimizer

from datastill.ground.graphs import Graphs
from datastill.ground.machine import Machine
from datastill.networks._base import Network


@dataclass(frozen=True, eq=False)
class Learner:
    """A network, in training mode whenever it learns, and what its weights are updated by."""

    network: Network
    optimizer: Optimizer
    loss: Callable[[Tensor, Tensor], Tensor]  # (outputs, targets) -> scalar
    machine: Machine
    graphs: Graphs  # of gradients; updates are not recorded, as rates and counters are the host's

    def learn(self, x: Tensor, y: Tensor) -> Tensor:  # (B, C, H, W), (B, ...) -> scalar
        """One update on images and their targets, both here; the loss before it."""
        self.network.train()
        (loss,) = self.graphs("gradients", self._gradients, self.network, x, y)
        self.optimizer.step()
        return loss

    def _gradients(self, x: Tensor, y: Tensor) -> tuple[Tensor]:
        self.optimizer.zero_grad(set_to_none=not self.graphs.active)  # recordings refer to them
        loss = self.loss(self.machine.run(self.network, x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        return (loss.detach(),)
