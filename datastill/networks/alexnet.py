"""AlexNet for small images (Krizhevsky et al., NeurIPS 2012): a test network of the paper."""

from dataclasses import dataclass

from torch import nn

from datastill.core.options import option
from datastill.networks.architecture import Architecture

# (channels in units of width, side of the kernel, whether max-pooling follows)
LAYERS = ((2, 5, True), (3, 5, True), (4, 3, False), (3, 3, False), (3, 3, True))


@dataclass(frozen=True)
class AlexNet(Architecture):
    """Five convolutions with batch norm; the features are the flattened last map.

    As in the released code of KRR-ST, one linear head stands in place of three layers with dropout
    (docs/fidelity.md#networks). Images need at least 8 pixels.

    Args:
        width: Unit of channels: the layers have 2, 3, 4, 3 and 3 times as many.

    Example:
        >>> network = AlexNet(width=8)(image_size=32, channels=3, outputs=10)
        >>> network.num_features  # (32 / 8)² · 3 · 8
        384
    """

    width: int = option(
        64, "unit of channels: layers have 2, 3, 4, 3 and 3 times as many", at_least=1
    )

    def min_size(self) -> int:
        return 8

    def build_body(self, image_size: int, channels: int) -> tuple[nn.Module, int]:
        layers: list[nn.Module] = []
        for units, side, pooled in LAYERS:
            width = units * self.width
            layers += [nn.Conv2d(channels, width, side, padding=side // 2)]
            layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            layers += [nn.MaxPool2d(2)] if pooled else []
            channels = width
        return nn.Sequential(*layers, nn.Flatten()), (image_size // 8) ** 2 * channels
