"""ResNet-10 starts as the released test network, and ResNet-18 as the paper's target model."""

import pytest
import torch
from torch import Tensor, nn

from datastill.networks._resnet import BasicBlock, StridedPointwise
from datastill.networks.architecture import Architecture, Network
from datastill.networks.resnet10 import ResNet10
from datastill.networks.resnet18 import ResNet18


def blocks(network: Network) -> list[BasicBlock]:
    return [module for module in network.modules() if isinstance(module, BasicBlock)]


def last_scales(architecture: Architecture) -> list[Tensor]:
    """Scales of the last normalisation of each residual."""
    network = architecture(image_size=8, channels=1, outputs=None)
    return [block.residual.get_parameter("4.weight") for block in blocks(network)]


@pytest.fixture(scope="module")
def resnet10() -> Network:
    return ResNet10()(image_size=32, channels=3, outputs=None)


def test_resnet10__blocks_start_as_their_shortcuts(resnet10: Network) -> None:
    x = torch.randn(2, 64, 8, 8, generator=torch.Generator().manual_seed(0))
    for block in blocks(resnet10):
        expected = block.shortcut(x).clamp_min(0)
        torch.testing.assert_close(block(x), expected)
        x = expected


@pytest.mark.parametrize("architecture", [ResNet10, ResNet18])
@pytest.mark.parametrize("zero", [False, True])
def test_resnet__residuals_start_at_once_or_as_zero(
    architecture: type[ResNet10 | ResNet18], zero: bool
) -> None:
    for scale in last_scales(architecture(width=4, zero_init_residual=zero)):
        assert torch.equal(scale, torch.full_like(scale, 0.0 if zero else 1.0))


def test_resnet10__convolutions_of_blocks_start_by_fan_out(resnet10: Network) -> None:
    weight = blocks(resnet10)[1].residual.get_parameter("0.weight")  # (128, 64, 3, 3)
    assert weight.std().item() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.05)


def test_resnet10__stem_starts_as_any_convolution(resnet10: Network) -> None:
    weight = resnet10.get_parameter("body.0.weight")  # uniform within 1 / √fan-in
    assert weight.abs().max().item() <= (1 / 27) ** 0.5
    assert weight.std().item() == pytest.approx((1 / 81) ** 0.5, rel=0.05)


def test_basic_block__equals_its_formula() -> None:
    block = BasicBlock(2, 4, stride=2).eval()
    x = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    expected = (block.residual(x) + block.shortcut(x)).clamp_min(0)
    torch.testing.assert_close(block(x), expected)
    assert expected.shape == (1, 4, 3, 3)
    assert isinstance(BasicBlock(4, 4, stride=1).shortcut, nn.Identity)


@pytest.mark.parametrize("channels", [4, 12])
def test_strided_pointwise__is_a_strided_convolution(channels: int) -> None:
    layer = StridedPointwise(channels, 8, stride=2)
    x = torch.randn(4, channels, 7, 7, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=torch.channels_last)
    out, weight = layer(x), layer.weight.detach().double().requires_grad_()
    expected = nn.functional.conv2d(x.double(), weight, stride=2)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(out.square().sum(), layer.weight)
    (reference,) = torch.autograd.grad(expected.square().sum(), weight)
    torch.testing.assert_close(gradient.double(), reference, rtol=1e-4, atol=1e-5)
