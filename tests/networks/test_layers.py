"""ConvNet, VGG11 and AlexNet have the layers of the released code; refusals of all networks."""

import pytest
import torch
from torch import nn

from datastill.core.errors import ConfigError
from datastill.networks.alexnet import AlexNet
from datastill.networks.architecture import Architecture
from datastill.networks.convnet import ConvNet
from datastill.networks.mobilenet import MobileNet
from datastill.networks.vgg11 import VGG11


def layers(architecture: Architecture, size: int = 64) -> list[str]:
    """Types of the layers; of convolutions their channels and the side of the kernel."""
    body, _ = architecture.build_body(size, 3)
    assert isinstance(body, nn.Sequential)
    return [
        f"{layer.out_channels}x{layer.kernel_size[0]}"
        if isinstance(layer, nn.Conv2d)
        else type(layer).__name__
        for layer in body
    ]


def with_norm(*convolutions: str) -> list[str]:
    """Layers where each convolution is followed by batch norm and ReLU; `pool` is MaxPool2d."""
    after = {"pool": ["MaxPool2d"]}
    return [x for name in convolutions for x in after.get(name, [name, "BatchNorm2d", "ReLU"])] + [
        "Flatten"
    ]


def test_alexnet__has_the_layers_of_the_released_code() -> None:
    convolutions = ("128x5", "pool", "192x5", "pool", "256x3", "192x3", "192x3", "pool")
    assert layers(AlexNet()) == with_norm(*convolutions)


def test_vgg11__has_the_layers_of_the_released_code() -> None:
    stages = ("64x3", "pool", "128x3", "pool", "256x3", "256x3", "pool")
    assert layers(VGG11()) == with_norm(*stages, *("512x3", "512x3", "pool") * 2)


def test_convnet__has_the_layers_of_the_paper() -> None:
    block = ("BatchNorm2d", "FusedReLUAvgPool")
    assert layers(ConvNet(), 32) == ["128x3", *block, "256x3", *block, "512x3", *block, "Flatten"]
    assert layers(ConvNet(norm="none"), 32)[:3] == ["128x3", "FusedReLUAvgPool", "256x3"]


@pytest.mark.parametrize(("size", "blocks"), [(32, 3), (64, 4), (224, 5)])
def test_convnet__one_width_is_of_all_blocks(size: int, blocks: int) -> None:
    assert layers(ConvNet(widths=(4,)), size) == layers(ConvNet(widths=(4,) * blocks), size)


def test_vgg11__four_stages_take_16_pixels() -> None:
    network = VGG11(widths=(4, 8, 8, 8))(image_size=16, channels=1, outputs=None)
    assert network(torch.zeros(2, 1, 16, 16)).shape == (2, 8)


@pytest.mark.parametrize("widths", [(0,), (4,) * 6, (4, 0)])
@pytest.mark.parametrize("architecture", [ConvNet, VGG11])
def test_networks__strange_widths_are_refused(
    architecture: type[ConvNet | VGG11], widths: tuple[int, ...]
) -> None:
    with pytest.raises(ConfigError, match="widths must be 1 to 5 positive numbers"):
        architecture(widths=widths)


@pytest.mark.parametrize("width", [2, 6])
def test_mobilenet__strange_widths_are_refused(width: int) -> None:
    with pytest.raises(ConfigError, match=f"width.*{width}"):
        MobileNet(width=width)
