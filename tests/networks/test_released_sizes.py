"""Features and parameters are those of the released code of KRR-ST, which was run to count them."""

import pytest
import torch
from torch import nn

from datastill.core.lookup import find
from datastill.networks.architecture import Architecture

# (name, image size): (F, parameters of the body, parameters with a head of 512 outputs)
RELEASED = {
    ("convnet", 32): (8_192, 1_480_704, 5_675_520),
    ("convnet", 64): (8_192, 1_552_896, 5_747_712),
    ("convnet", 224): (25_088, 1_570_560, 14_416_128),
    ("resnet10", 32): (512, 4_898_112, 5_160_768),
    ("resnet10", 64): (512, 4_898_112, 5_160_768),
    ("resnet10", 224): (512, 4_898_112, 5_160_768),
    ("resnet18", 32): (512, 11_168_832, 11_431_488),
    ("resnet18", 64): (512, 11_168_832, 11_431_488),
    ("resnet18", 224): (512, 11_168_832, 11_431_488),
    ("vgg11", 32): (512, 9_225_984, 9_488_640),
    ("vgg11", 64): (2_048, 9_225_984, 10_275_072),
    ("vgg11", 224): (25_088, 9_225_984, 22_071_552),
    ("alexnet", 32): (3_072, 1_843_392, 3_416_768),
    ("alexnet", 64): (12_288, 1_843_392, 8_135_360),
    ("alexnet", 224): (150_528, 1_843_392, 78_914_240),
    ("mobilenet", 32): (1_280, 1_079_504, 1_735_376),
    ("mobilenet", 64): (1_280, 1_079_504, 1_735_376),
    ("mobilenet", 224): (1_280, 1_079_504, 1_735_376),
}
every_network = pytest.mark.parametrize("name", sorted({name for name, _ in RELEASED}))


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def default(name: str) -> Architecture:
    architecture = find("datastill.networks", name)()
    assert isinstance(architecture, Architecture)
    return architecture


@pytest.mark.parametrize(("name", "size"), RELEASED, ids=lambda value: str(value))
def test_networks__have_the_sizes_of_the_released_code(name: str, size: int) -> None:
    with torch.device("meta"):
        network = default(name)(image_size=size, channels=3, outputs=512)
        features = network.embed(torch.zeros(2, 3, size, size)).shape[1]
    sizes = features, parameters(network.body), parameters(network)
    assert sizes == RELEASED[name, size] and network.num_features == features


@every_network
def test_networks__have_no_dropout(name: str) -> None:
    body, _ = default(name).build_body(32, 3)
    assert not any(isinstance(module, nn.Dropout) for module in body.modules())


@every_network
def test_networks__downsample_as_the_released_code(name: str) -> None:
    """The side of the last map before averaging or flattening, for images of 64 pixels."""
    body, _ = default(name).build_body(64, 3)
    assert isinstance(body, nn.Sequential)
    layers = [x for x in body if not isinstance(x, nn.Flatten | nn.AdaptiveAvgPool2d)]
    with torch.device("meta"):
        maps = nn.Sequential(*layers).to("meta")(torch.zeros(2, 3, 64, 64))
    sides = {"convnet": 4, "vgg11": 2, "alexnet": 8, "mobilenet": 8, "resnet10": 9, "resnet18": 9}
    assert maps.shape[2:] == (sides[name], sides[name])
