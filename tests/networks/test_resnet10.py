"""ResNet-10 starts as the released test network does."""

import pytest
import torch
from torch import nn

from datastill.networks._resnet import BasicBlock
from datastill.networks.architecture import Network
from datastill.networks.resnet10 import ResNet10


def blocks(network: Network) -> list[BasicBlock]:
    return [module for module in network.modules() if isinstance(module, BasicBlock)]


@pytest.fixture(scope="module")
def full() -> Network:
    return ResNet10()(image_size=32, channels=3, outputs=None)


def test_resnet10__has_a_block_per_stage(full: Network) -> None:
    assert len(blocks(full)) == 4


def test_resnet10__blocks_start_as_their_shortcuts(full: Network) -> None:
    x = torch.randn(2, 64, 8, 8, generator=torch.Generator().manual_seed(0))
    for block in blocks(full):
        expected = block.shortcut(x).clamp_min(0)
        torch.testing.assert_close(block(x), expected)
        x = expected


def test_resnet10__residuals_may_start_at_once() -> None:
    network = ResNet10(width=4, zero_init_residual=False)(image_size=8, channels=1, outputs=None)
    scales = [block.residual.get_parameter("4.weight") for block in blocks(network)]
    assert all(torch.equal(scale, torch.ones_like(scale)) for scale in scales)


def test_resnet10__width_scales_all_stages() -> None:
    assert ResNet10(width=16).build_body(8, 3)[1] == 128


def test_resnet10__other_convolutions_start_by_fan_out(full: Network) -> None:
    weight = blocks(full)[1].residual.get_parameter("0.weight")  # (128, 64, 3, 3)
    assert weight.std().item() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.05)


def test_resnet10__stem_starts_as_any_convolution(full: Network) -> None:
    assert isinstance(full.body, nn.Sequential)
    weight = full.get_parameter("body.0.weight")  # uniform within 1 / √fan-in
    assert weight.abs().max().item() <= (1 / 27) ** 0.5
    assert weight.std().item() == pytest.approx((1 / 81) ** 0.5, rel=0.05)
