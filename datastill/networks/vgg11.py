"""VGG11 with batch norm (Simonyan and Zisserman, ICLR 2015): a test network of the paper."""

from dataclasses import dataclass

from torch import nn

from datastill.core.errors import ConfigError
from datastill.core.options import option
from datastill.networks.architecture import Architecture

CONVOLUTIONS = (1, 1, 2, 2, 2)  # number in each stage


@dataclass(frozen=True)
class VGG11(Architecture):
    """Stages of 3x3 convolutions, each ended by max-pooling; the features are the flattened map.

    As in the released code of KRR-ST, one linear head stands in place of three layers with dropout
    (docs/fidelity.md#networks). With n stages images need at least 2ⁿ pixels.

    Args:
        widths: Channels of each of 1 to 5 stages.

    Raises:
        ConfigError: There are more than five widths or none, or one is not positive.

    Example:
        >>> network = VGG11(widths=(8, 16, 16))(image_size=16, channels=3, outputs=10)
        >>> network.num_features  # (16 / 8)² · 16
        64
    """

    widths: tuple[int, ...] = option(
        (64, 128, 256, 512, 512), "channels of each stage; fewer stages take smaller images"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (1 <= len(self.widths) <= 5 and min(self.widths) > 0):
            raise ConfigError(f"widths must be 1 to 5 positive numbers, got {list(self.widths)}")

    def min_size(self) -> int:
        return int(2 ** len(self.widths))

    def build_body(self, image_size: int, channels: int) -> tuple[nn.Module, int]:
        layers: list[nn.Module] = []
        for width, count in zip(self.widths, CONVOLUTIONS, strict=False):
            for _ in range(count):
                layers += [nn.Conv2d(channels, width, 3, padding=1)]
                layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
                channels = width
            layers += [nn.MaxPool2d(2)]
        side = image_size >> len(self.widths)
        return nn.Sequential(*layers, nn.Flatten()), side * side * channels
