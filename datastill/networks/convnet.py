"""ConvNet (Gidaris and Komodakis, CVPR 2018), the standard network of dataset distillation."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from datastill.core.errors import ConfigError
from datastill.core.options import option
from datastill.networks._fused_pool import FusedReLUAvgPool
from datastill.networks.architecture import Architecture


@dataclass(frozen=True)
class ConvNet(Architecture):
    """Blocks of 3x3 convolution, normalization, ReLU and 2x2 average pooling.

    The features are the flattened last map: (H / 2ⁿ)² · width of them for n blocks.

    Args:
        widths: Channels of each of 1 to 5 blocks. One number is the width of as many blocks as
            KRR-ST uses for the image size. Default: the widths of KRR-ST, 128-256-512 up to 32
            pixels, 64-128-256-512 up to 64, and 32-64-128-256-512 above.
        norm: "batch" as in KRR-ST, "instance" with affine parameters, or "none".

    Raises:
        ConfigError: There are more than five widths, or one is not positive.

    Example:
        >>> network = ConvNet()(image_size=32, channels=3, outputs=512)
        >>> network.num_features
        8192
        >>> ConvNet(widths=(8, 16), norm="instance")(image_size=16, channels=1, outputs=10).head
        Linear(in_features=256, out_features=10, bias=True)
    """

    widths: tuple[int, ...] = option(
        (),
        "channels of each block; one number: of as many blocks as the paper has; empty: the"
        " paper's for the image size",
    )
    norm: Literal["batch", "instance", "none"] = option("batch", "normalization layer")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.widths and not (len(self.widths) <= 5 and min(self.widths) > 0):
            raise ConfigError(f"widths must be 1 to 5 positive numbers, got {list(self.widths)}")

    def min_size(self) -> int:
        return int(2 ** len(self._widths(image_size=0)))

    def build_body(self, image_size: int, channels: int) -> tuple[nn.Module, int]:
        widths = self._widths(image_size)
        blocks: list[nn.Module] = []
        for width in widths:
            blocks += [nn.Conv2d(channels, width, 3, padding=1)]
            if self.norm == "batch":
                blocks += [nn.BatchNorm2d(width)]
            elif self.norm == "instance":
                blocks += [nn.InstanceNorm2d(width, affine=True)]
            blocks += [FusedReLUAvgPool()]
            channels = width
        side = image_size >> len(widths)
        return nn.Sequential(*blocks, nn.Flatten()), side * side * channels

    def _widths(self, image_size: int) -> tuple[int, ...]:
        defaults = paper_widths(image_size)
        return self.widths * len(defaults) if len(self.widths) == 1 else self.widths or defaults


def paper_widths(image_size: int) -> tuple[int, ...]:
    """Return the widths of KRR-ST for images of 32 (and less), 64 and 224 pixels."""
    if image_size <= 32:
        return (128, 256, 512)
    return (64, 128, 256, 512) if image_size <= 64 else (32, 64, 128, 256, 512)
