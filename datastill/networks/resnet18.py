"""ResNet-18 (He et al., CVPR 2016): the paper's target model, with a stem for small images."""

from dataclasses import dataclass

from torch import nn

from datastill.core.options import option
from datastill.networks._resnet import Stem, resnet_body
from datastill.networks.architecture import Architecture


@dataclass(frozen=True)
class ResNet18(Architecture):
    """Four stages of two basic blocks; the features are 8 · width channel averages.

    Images need at least 8 pixels, or 32 with the large stem.

    Args:
        width: Channels of the first stage; each later stage has twice as many.
        zero_init_residual: Start blocks as their shortcuts. The target model of the released code
            does not.
        stem: "small", a 3x3 convolution of stride 1; or "large" for photographs, a 7x7
            convolution of stride 2 and max-pooling.

    Example:
        >>> network = ResNet18(width=8)(image_size=32, channels=3, outputs=None)
        >>> network.num_features
        64
    """

    width: int = option(
        64, "channels of the first stage; each later stage has twice as many", at_least=1
    )
    zero_init_residual: bool = option(
        False, "blocks start as their shortcuts; false: the target model of the released code"
    )
    stem: Stem = option(
        "small", "3x3 of stride 1, or large: 7x7 of stride 2 and max-pooling, for photographs"
    )

    def min_size(self) -> int:
        return 8 if self.stem == "small" else 32

    def build_body(self, image_size: int, channels: int) -> tuple[nn.Module, int]:
        return resnet_body(
            channels,
            self.width,
            (2, 2, 2, 2),
            zero_init_residual=self.zero_init_residual,
            stem=self.stem,
        )
