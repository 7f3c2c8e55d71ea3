"""ConvNet: blocks of convolution, normalisation, ReLU and average pooling.

Gidaris and Komodakis, CVPR 2018; the field's standard network for distillation. KRR-ST uses
batch normalisation and widths 128-256-512 at 32 pixels, 64-128-256-512 at 64 and
32-64-128-256-512 at 224.
"""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from datastill.ground.errors import ConfigError
from datastill.ground.options import check_bounds, option
from datastill.networks._base import AbstractArchitecture
from datastill.networks._rectified_mean import RectifiedMean


@dataclass(frozen=True)
class ConvNet(AbstractArchitecture):
    """1 to 5 blocks; features are the flattened last map, (H / 2ⁿ)² · width of them."""

    widths: tuple[int, ...] = option(
        (),
        "channels of each block; one number: of as many blocks as the paper has; empty: the"
        " paper's for the image size",
    )
    norm: Literal["batch", "instance", "none"] = option("batch", "normalisation layer")

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.widths and not (len(self.widths) <= 5 and min(self.widths) > 0):
            raise ConfigError(f"widths must be 1 to 5 positive numbers, got {list(self.widths)}")

    def min_size(self) -> int:
        return int(2 ** len(self._widths(0)))

    def build_body(self, image_size: int, channels: int) -> tuple[nn.Module, int]:
        widths = self._widths(image_size)
        blocks: list[nn.Module] = []
        for width in widths:
            blocks += [nn.Conv2d(channels, width, 3, padding=1), *self._norm(width)]
            blocks += [RectifiedMean()]
            channels = width
        side = image_size >> len(widths)
        return nn.Sequential(*blocks, nn.Flatten()), side * side * channels

    def _widths(self, image_size: int) -> tuple[int, ...]:
        papers = paper_widths(image_size)
        return self.widths * len(papers) if len(self.widths) == 1 else self.widths or papers

    def _norm(self, width: int) -> list[nn.Module]:
        match self.norm:
            case "batch":
                return [nn.BatchNorm2d(width)]
            case "instance":
                return [nn.InstanceNorm2d(width, affine=True)]
            case "none":
                return []


def paper_widths(image_size: int) -> tuple[int, ...]:
    """The widths of KRR-ST for images of 32 (and less), 64 and 224 pixels."""
    if image_size <= 32:
        return (128, 256, 512)
    return (64, 128, 256, 512) if image_size <= 64 else (32, 64, 128, 256, 512)
