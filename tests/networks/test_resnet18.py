"""ResNet-18 has the sizes of the paper's target model."""

import pytest
import torch
from torch import nn

from datastill.networks._resnet import BasicBlock
from datastill.networks.architecture import Network
from datastill.networks.resnet18 import ResNet18


def by_formula(width: int) -> int:
    """Stem, four stages of two blocks, 1x1 shortcuts where a stage doubles its channels."""

    def convolution(channels: int, out: int, side: int) -> int:
        return side * side * channels * out + 2 * out  # no bias; scale and shift of the norm

    total = convolution(3, width, 3) + 4 * convolution(width, width, 3)
    for channels in (width, 2 * width, 4 * width):
        out = 2 * channels
        total += convolution(channels, out, 3) + 3 * convolution(out, out, 3)
        total += convolution(channels, out, 1)
    return total


def last_scales(network: Network) -> list[torch.Tensor]:
    """Scales of the last normalisation of each residual."""
    blocks = [module for module in network.modules() if isinstance(module, BasicBlock)]
    return [block.residual.get_parameter("4.weight") for block in blocks]


@pytest.fixture(scope="module")
def full() -> Network:
    return ResNet18()(image_size=32, channels=3, outputs=None)


def test_resnet18__has_the_parameters_of_the_paper(full: Network) -> None:
    count = sum(p.numel() for p in full.parameters())
    assert count == by_formula(64) == 11_168_832  # torchvision's 11,176,512 less its 7x7 stem


def test_resnet18__has_512_features(full: Network) -> None:
    assert full.num_features == full.outputs == 512


def test_resnet18__stem_gives_maps_of_34_for_images_of_32(full: Network) -> None:
    assert isinstance(full.body, nn.Sequential)
    assert full.body[0](torch.zeros(1, 3, 32, 32)).shape == (1, 64, 34, 34)


def test_resnet18__has_no_max_pooling(full: Network) -> None:
    assert not any(isinstance(m, nn.MaxPool2d) for m in full.modules())


def test_resnet18__width_scales_all_stages() -> None:
    assert ResNet18(width=16).build_body(8, 3)[1] == 128


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
