"""MobileNetV2 for small images (Sandler et al., CVPR 2018): a test network of the paper."""

from dataclasses import dataclass

from torch import Tensor, nn

from datastill.core.errors import ConfigError
from datastill.core.options import option
from datastill.networks.architecture import Architecture

# (expansion, channels in quarters of width, blocks, stride of the first block), as released for
# KRR-ST; the paper of MobileNetV2 expands by 6 and also halves the maps in the stem and in stage 2
STAGES = (
    (1, 2, 1, 1),
    (2, 3, 2, 1),
    (2, 4, 3, 2),
    (2, 8, 4, 2),
    (2, 12, 3, 1),
    (2, 20, 3, 2),
    (2, 40, 1, 1),
)


class InvertedResidual(nn.Module):
    """Expand, filter each channel by itself, project; with a shortcut if the map keeps its size.

    Where the channels change, the shortcut is a 1x1 convolution, as in the released code of
    KRR-ST; the paper of MobileNetV2 has none there (docs/fidelity.md#networks).
    """

    def __init__(self, channels: int, width: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        inner = expansion * channels
        self.residual = nn.Sequential(
            *_convolution(channels, inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, inner, 3, stride, padding=1, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            *_convolution(inner, width),
        )
        self.shortcut: nn.Module | None = nn.Identity() if stride == 1 else None
        if stride == 1 and channels != width:
            self.shortcut = nn.Sequential(*_convolution(channels, width))

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, width, ⌈H/stride⌉, ⌈W/stride⌉)
        """Compute residual + shortcut, without a ReLU at the end."""
        residual: Tensor = self.residual(x)
        return residual if self.shortcut is None else residual + self.shortcut(x)


@dataclass(frozen=True)
class MobileNet(Architecture):
    """Seventeen inverted residual blocks; the features are 40 · width channel averages.

    Images need at least 8 pixels.

    Args:
        width: Channels of the stem, a multiple of 4; all others scale with it.

    Raises:
        ConfigError: The width is not a positive multiple of 4.

    Example:
        >>> network = MobileNet(width=8)(image_size=32, channels=3, outputs=10)
        >>> network.num_features
        320
    """

    width: int = option(32, "channels of the stem, a multiple of 4; all others scale", at_least=4)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % 4:
            raise ConfigError(f"width must be a multiple of 4, got {self.width}")

    def min_size(self) -> int:
        return 8

    def build_body(self, image_size: int, channels: int) -> tuple[nn.Module, int]:
        unit, features = self.width // 4, 40 * self.width
        stem = nn.Conv2d(channels, self.width, 3, padding=1, bias=False)
        layers: list[nn.Module] = [stem, nn.BatchNorm2d(self.width), nn.ReLU(inplace=True)]
        channels = self.width
        for expansion, units, blocks, first_stride in STAGES:
            for stride in (first_stride, *[1] * (blocks - 1)):
                width = units * unit
                layers += [InvertedResidual(channels, width, expansion=expansion, stride=stride)]
                channels = width
        layers += [*_convolution(channels, features), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), features


def _convolution(channels: int, width: int) -> list[nn.Module]:
    """Make a 1x1 convolution with batch norm."""
    return [nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)]
