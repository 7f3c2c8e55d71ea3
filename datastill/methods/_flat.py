"""A network as a function of one vector of all its parameters, θ."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.func import functional_call

from datastill.ground.machine import Machine
from datastill.networks._base import Network


def flat(network: Network) -> Tensor:  # (P,)
    """A copy of all parameters in one vector, in the order of `parameters()`."""
    return torch.cat([p.detach().reshape(-1) for p in network.parameters()])


@dataclass(frozen=True, eq=False)
class FlatNetwork:
    """`network` with its parameters taken from a vector; its own are never read.

    In training mode: batch normalisation uses the statistics of each batch, and what it counts in
    its buffers has no influence on anything.
    """

    network: Network
    machine: Machine = Machine()

    def __post_init__(self) -> None:
        self.network.train()

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:  # (P,), (B, C, H, W) -> (B, outputs)
        """Outputs at the parameters θ; differentiable in both."""
        return self.machine.run(partial(self._forward, self._named(theta)), x)

    def _forward(self, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        outputs: Tensor = functional_call(self.network, parameters, (x,))
        return outputs

    def _named(self, theta: Tensor) -> dict[str, Tensor]:
        own = dict(self.network.named_parameters())
        parts = torch.split(theta, [p.numel() for p in own.values()])
        return {
            name: part.view(p.shape) for (name, p), part in zip(own.items(), parts, strict=True)
        }
