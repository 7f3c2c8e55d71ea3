"""One update of a network on a batch."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.optim import Optimizer

from datastill.core.machine import Machine


def train_step(
    network: nn.Module,
    optimizer: Optimizer,
    loss_function: Callable[[Tensor, Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    machine: Machine,
) -> Tensor:
    """Take one optimizer step in training mode; return the loss before it.

    Args:
        network: Updated in place and left in training mode.
        optimizer: Of the network's parameters.
        loss_function: Maps (outputs, targets) to a scalar.
        images: (B, C, H, W) normalized pixels on the device of `machine`.
        targets: (B, ...) on the same device.
        machine: Precision and memory layout of the forward pass.

    Returns:
        The detached loss, a scalar on the device.
    """
    network.train()
    optimizer.zero_grad()
    loss = loss_function(machine.forward(network, images), targets)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach()
