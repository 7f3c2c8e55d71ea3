"""Residual networks (He et al., CVPR 2016) with a stem for small images or for photographs."""

from typing import Literal

from torch import Tensor, nn

# The released code of KRR-ST pads by 2, so that a 32x32 image gives 34x34 maps
# (docs/fidelity.md#networks).
STEM_PADDING = 2
Stem = Literal["small", "large"]


class StridedPointwise(nn.Conv2d):
    """A 1x1 convolution of every `stride`-th row and column, computed on these alone.

    PyTorch's strided one corrupts memory on processors without AVX-512 where it is trained with
    fewer than 8 input channels (oneDNN issue 6035).
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__(channels, width, 1, bias=False)
        self.every = stride

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, width, H/stride, W/stride)
        return super().forward(x[:, :, :: self.every, :: self.every])


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            convolution = StridedPointwise(channels, width, stride)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, width, H/stride, W/stride)
        """Compute ReLU(residual + shortcut)."""
        total: Tensor = self.residual(x) + self.shortcut(x)
        return total.relu_()

    def init_weights(self, *, zero_init_residual: bool) -> None:
        """Initialise convolutions by He's normal distribution with fan-out, as torchvision does.

        Args:
            zero_init_residual: Start the scale of the last batch norm, and so the residual, as 0.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if zero_init_residual:
            nn.init.zeros_(self.residual.get_parameter("4.weight"))


def resnet_body(
    channels: int,
    width: int,
    depths: tuple[int, ...],
    *,
    zero_init_residual: bool,
    stem: Stem = "small",
) -> tuple[nn.Module, int]:
    """Build a residual network without its classifier.

    Args:
        channels: Channels of the images.
        width: Channels of the first stage; each later stage has twice as many and half the side.
        depths: Number of blocks of each stage.
        zero_init_residual: Whether blocks start as their shortcuts.
        stem: "small": a 3x3 convolution of stride 1; "large": that of the paper, for 224 pixels.

    Returns:
        A module that maps (B, C, H, W) to (B, F), and F.
    """
    if stem == "small":
        # keeps PyTorch's default weights: the released code replaces the stem after it has
        # initialised all convolutions
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=STEM_PADDING, bias=False)]
    else:
        convolution = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        layers = [convolution]
    layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    layers += [nn.MaxPool2d(3, stride=2, padding=1)] if stem == "large" else []
    channels = width
    for stage, depth in enumerate(depths):
        for number in range(depth):
            stride = 2 if stage > 0 and number == 0 else 1
            block = BasicBlock(channels, width << stage, stride)
            block.init_weights(zero_init_residual=zero_init_residual)
            layers.append(block)
            channels = width << stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), channels
