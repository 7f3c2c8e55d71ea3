"""VGG11 has the layers of the released code, and takes small images with fewer stages."""

import pytest
import torch
from torch import nn

from datastill.core.errors import ConfigError
from datastill.networks.vgg11 import VGG11


def test_vgg11__channels_are_those_of_the_released_code() -> None:
    body, _ = VGG11().build_body(64, 3)
    assert isinstance(body, nn.Sequential)
    actual = [getattr(x, "out_channels", "pool") for x in body
             if isinstance(x, nn.Conv2d | nn.MaxPool2d)]  # fmt: skip
    stages = [64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool"]
    assert actual == stages


def test_vgg11__images_of_16_pixels_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 32 pixels, got 16; raise --image-size or"):
        VGG11().check(16)


def test_vgg11__four_stages_take_16_pixels() -> None:
    network = VGG11(widths=(4, 8, 8, 8))(image_size=16, channels=1, outputs=None)
    assert network(torch.zeros(2, 1, 16, 16)).shape == (2, 8)


@pytest.mark.parametrize("widths", [(), (4,) * 6, (4, 0)])
def test_vgg11__strange_widths_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="widths must be 1 to 5 positive numbers"):
        VGG11(widths=widths)
