"""AlexNet has the layers of the released code."""

import pytest
from torch import nn

from datastill.core.errors import ConfigError
from datastill.networks.alexnet import AlexNet


def layers() -> list[nn.Module]:
    body, _ = AlexNet().build_body(64, 3)
    assert isinstance(body, nn.Sequential)
    return list(body)


def test_alexnet__channels_and_kernels_are_those_of_the_released_code() -> None:
    actual = [(x.out_channels, x.kernel_size[0]) for x in layers() if isinstance(x, nn.Conv2d)]
    assert actual == [(128, 5), (192, 5), (256, 3), (192, 3), (192, 3)]


def test_alexnet__pools_after_layers_1_2_and_5() -> None:
    layer_types = [type(x).__name__ for x in layers()]
    layer = ["Conv2d", "BatchNorm2d", "ReLU"]
    pooled = [*layer, "MaxPool2d"]
    assert layer_types == [*pooled, *pooled, *layer, *layer, *pooled, "Flatten"]


def test_alexnet__images_below_8_pixels_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 8 pixels, got 7; raise --image-size"):
        AlexNet().check(7)
