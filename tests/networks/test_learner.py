"""What a learner learns, recorded on a device that a CPU plays and not recorded."""

from collections.abc import Iterator

import pytest
import second_device
import torch
import torch.nn.functional as F
from torch import Tensor
from toys import equal, toy_images, toy_network, weights

from datastill.ground import graphs
from datastill.ground.graphs import Graphs
from datastill.ground.machine import Machine
from datastill.maths.optimizers import AdamW, OptimizerSpec, Sgd
from datastill.maths.schedules import Cosine, set_rates
from datastill.networks._learner import Learner

THERE = Machine(second_device.NAME)
SIZES = (8, 8, 5, 8, 5, 5, 8, 8)  # an epoch ends with a smaller batch


@pytest.fixture(autouse=True)
def there(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Recordings are made by the second device."""
    monkeypatch.setattr(graphs, "record", second_device.record)
    monkeypatch.setattr(graphs, "new_pool", object)
    with second_device.second_device():
        yield


def learned(
    optimizer: OptimizerSpec, *, machine: Machine = THERE, recorded: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    """Losses, and weights at the end, of batches of two sizes at falling rates."""
    network, losses = machine.place(toy_network()), []
    updates = optimizer.make(network.parameters())
    learner = Learner(network, updates, F.mse_loss, machine, Graphs(recorded))
    x, y = toy_images(24).normalized(slice(None)), torch.eye(24)[:, :5]
    for step, size in enumerate(SIZES):
        set_rates(updates, Cosine(), step, len(SIZES))
        network.eval()  # as after a look at it
        losses.append(learner.learn(machine.here(x[:size]), machine.here(y[:size])).cpu())
        assert network.training
    return losses, weights(network.cpu())


@pytest.mark.parametrize("optimizer", [Sgd(0.1, 0.9, 0.01), AdamW(0.01)])
def test_learner__recorded_learns_the_same_bit_for_bit(optimizer: OptimizerSpec) -> None:
    losses, plain = learned(optimizer)
    again, recorded = learned(optimizer, recorded=True)
    assert losses == again and len(set(map(float, losses))) == len(SIZES)
    assert equal(plain, recorded)


def test_learner__is_the_loop_of_textbooks() -> None:
    network = toy_network().train()
    sgd = torch.optim.SGD(network.parameters(), lr=0.1)
    x, y = toy_images(24).normalized(slice(None)), torch.eye(24)[:, :5]
    for step, size in enumerate(SIZES):
        sgd.param_groups[0]["lr"] = 0.1 * Cosine().factor(step, len(SIZES))
        loss = F.mse_loss(network(x[:size]), y[:size])
        sgd.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        sgd.step()
    _, found = learned(Sgd(0.1, momentum=0), machine=Machine())
    for one, other in zip(weights(network), found, strict=True):
        torch.testing.assert_close(one, other)
