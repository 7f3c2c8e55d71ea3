"""One update of a network is the loop of textbooks."""

import torch
import torch.nn.functional as F
from factories import toy_images, toy_network, weights

from datastill.core.machine import Machine
from datastill.networks.train_step import train_step
from datastill.ops.optimizers import Sgd
from datastill.ops.schedules import Cosine, set_learning_rates

SIZES = (8, 8, 5, 8, 5, 5, 8, 8)  # an epoch ends with a smaller batch


def test_train_step__is_the_loop_of_textbooks() -> None:
    x, y = toy_images(24).normalized(slice(None)), torch.eye(24)[:, :5]
    plain, network = toy_network().train(), toy_network()
    sgd = torch.optim.SGD(plain.parameters(), lr=0.1)
    optimizer = Sgd(0.1, momentum=0).make(network.parameters())
    for step, size in enumerate(SIZES):
        sgd.param_groups[0]["lr"] = 0.1 * Cosine().factor(step, len(SIZES))
        expected = F.mse_loss(plain(x[:size]), y[:size])
        sgd.zero_grad()
        expected.backward()  # type: ignore[no-untyped-call]
        sgd.step()

        network.eval()  # as after an evaluation
        set_learning_rates(optimizer, Cosine(), step, len(SIZES))
        loss = train_step(network, optimizer, F.mse_loss, x[:size], y[:size], Machine())
        assert network.training
        torch.testing.assert_close(loss, expected.detach(), atol=1e-6, rtol=1e-5)
    for one, other in zip(weights(plain), weights(network), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
