"""ConvNet has the sizes of the paper."""

import pytest
import torch
from torch import nn

from datastill.core.errors import ConfigError
from datastill.networks._fused_pool import FusedReLUAvgPool
from datastill.networks.architecture import Network
from datastill.networks.convnet import ConvNet


@pytest.fixture(scope="module")
def at_32() -> Network:
    return ConvNet()(image_size=32, channels=3, outputs=512)


def test_convnet__blocks_stand_in_the_order_of_the_paper(at_32: Network) -> None:
    assert isinstance(at_32.body, nn.Sequential)
    actual = [type(layer) for layer in at_32.body]
    assert actual == [nn.Conv2d, nn.BatchNorm2d, FusedReLUAvgPool] * 3 + [nn.Flatten]


def test_convnet__without_norm_has_convolution_and_pooling_only() -> None:
    network = ConvNet(widths=(4, 8), norm="none")(image_size=8, channels=1, outputs=2)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())


@pytest.mark.parametrize(("size", "blocks"), [(32, 3), (64, 4), (224, 5)])
def test_convnet__one_width_is_of_all_blocks(size: int, blocks: int) -> None:
    one, all_of_them = (
        ConvNet(widths=(4,) * n)(image_size=size, channels=1, outputs=2) for n in (1, blocks)
    )
    shapes = [[tuple(p.shape) for p in n.parameters()] for n in (one, all_of_them)]
    assert shapes[0] == shapes[1]


def test_convnet__instance_norm_does_not_mix_images() -> None:
    network = ConvNet(widths=(4, 8), norm="instance")(image_size=8, channels=1, outputs=2)
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network.train()(x)[:1], network(x[:1]))


@pytest.mark.parametrize("widths", [(0,), (4,) * 6, (4, 0)])
def test_convnet__strange_widths_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="widths must be 1 to 5 positive numbers"):
        ConvNet(widths=widths)
