"""ResNet-18 has the sizes of the paper's target model."""

import pytest
import torch
from torch import nn

from datastill.networks._resnet import BasicBlock
from datastill.networks.architecture import Network
from datastill.networks.resnet18 import ResNet18


def last_scales(network: Network) -> list[torch.Tensor]:
    """Scales of the last normalisation of each residual."""
    blocks = [module for module in network.modules() if isinstance(module, BasicBlock)]
    return [block.residual.get_parameter("4.weight") for block in blocks]


@pytest.fixture(scope="module")
def full() -> Network:
    return ResNet18()(image_size=32, channels=3, outputs=None)


def test_resnet18__residuals_start_at_once_as_in_the_target_model(full: Network) -> None:
    assert all(torch.equal(scale, torch.ones_like(scale)) for scale in last_scales(full))


def test_resnet18__residuals_start_as_zero_on_request() -> None:
    network = ResNet18(width=4, zero_init_residual=True)(image_size=8, channels=1, outputs=None)
    assert not any(scale.any() for scale in last_scales(network))


def test_basic_block__equals_its_formula() -> None:
    block = BasicBlock(2, 4, stride=2).eval()
    x = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    expected = (block.residual(x) + block.shortcut(x)).clamp_min(0)
    torch.testing.assert_close(block(x), expected)
    assert expected.shape == (1, 4, 3, 3)


def test_basic_block__keeps_its_input_where_nothing_changes() -> None:
    assert isinstance(BasicBlock(4, 4, stride=1).shortcut, nn.Identity)
