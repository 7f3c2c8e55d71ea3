"""Batch norms fused into convolutions: the same map of every network, in evaluation mode."""

import pytest
import torch
from torch import Tensor, nn

from datastill.networks.alexnet import AlexNet
from datastill.networks.architecture import Architecture, Network
from datastill.networks.convnet import ConvNet
from datastill.networks.mobilenet import MobileNet
from datastill.networks.resnet10 import ResNet10
from datastill.networks.resnet18 import ResNet18
from datastill.networks.vgg11 import VGG11
from datastill.ops.fusion import fuse_conv_bn

NORMED = [ConvNet(), VGG11(), AlexNet(), ResNet10(16), ResNet18(16), MobileNet()]
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def trained(architecture: Architecture) -> Network:
    """A network in float64 whose batch norms have seen pixels, and so do something."""
    torch.manual_seed(0)
    network = architecture(image_size=32, channels=3, outputs=3).double()
    for _ in range(3):
        network(1 + 2 * torch.randn(8, 3, 32, 32, dtype=torch.float64))
    for layer in network.modules():
        if isinstance(layer, BATCH_NORMS):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias)
    return network.eval()


def pixels() -> Tensor:
    return torch.randn(4, 3, 32, 32, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("architecture", NORMED, ids=lambda value: type(value).__name__)
def test_fuse_conv_bn__maps_and_differentiates_as_before(architecture: Architecture) -> None:
    network, x = trained(architecture), pixels()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fused = fuse_conv_bn(network)
    assert not any(isinstance(layer, BATCH_NORMS) for layer in fused.modules())
    expected, actual = network(x), fused(x)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)
    gradient, expected_gradient = (
        torch.autograd.grad(y.square().sum(), x)[0] for y in (actual, expected)
    )
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-8, atol=1e-8)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())


def test_fuse_conv_bn__does_not_learn() -> None:
    copy = fuse_conv_bn(trained(ConvNet()).train())
    assert not copy.training
    assert not any(parameter.requires_grad for parameter in copy.parameters())


def test_fuse_conv_bn__leaves_alone_what_is_no_neighbour_of_a_convolution() -> None:
    module = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.ReLU())
    assert isinstance(fuse_conv_bn(module)[0], nn.BatchNorm2d)  # type: ignore[index]
