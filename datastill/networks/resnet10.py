"""ResNet-10 with the stem for small images (He et al., CVPR 2016): a test network of the paper."""

from dataclasses import dataclass

from torch import nn

from datastill.core.options import option
from datastill.networks._resnet import resnet_body
from datastill.networks.architecture import Architecture


@dataclass(frozen=True)
class ResNet10(Architecture):
    """Four stages of one basic block; the features are 8 · width channel averages.

    Images need at least 8 pixels.

    Args:
        width: Channels of the first stage; each later stage has twice as many.
        zero_init_residual: Start blocks as their shortcuts, as the released test networks do.

    Example:
        >>> network = ResNet10(width=8)(image_size=32, channels=3, outputs=10)
        >>> network.num_features
        64
    """

    width: int = option(
        64, "channels of the first stage; each later stage has twice as many", at_least=1
    )
    zero_init_residual: bool = option(
        True, "blocks start as their shortcuts, as the released test networks do"
    )

    def min_size(self) -> int:
        return 8

    def build_body(self, image_size: int, channels: int) -> tuple[nn.Module, int]:
        return resnet_body(
            channels, self.width, (1, 1, 1, 1), zero_init_residual=self.zero_init_residual
        )
