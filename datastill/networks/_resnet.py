"""Residual networks (He et al., CVPR 2016) with a stem for small images or for photographs.

The small stem is a 3x3 convolution of stride 1 without max-pooling. Its padding is 2, as in the
released code of KRR-ST, so that a 32x32 image gives 34x34 maps (docs/fidelity.md#networks).
"""

from typing import Literal

from torch import Tensor, nn

STEM_PADDING = 2
Stem = Literal["small", "large"]


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
            convolution = nn.Conv2d(channels, width, 1, stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, width, H/stride, W/stride)
        """ReLU of residual plus shortcut."""
        joined: Tensor = self.residual(x) + self.shortcut(x)
        return joined.relu_()

    def start(self, *, zero_init_residual: bool) -> None:
        """He's normal initialisation by fan-out; on request the residual starts as zero."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if zero_init_residual:
            nn.init.zeros_(self.residual.get_parameter("4.weight"))  # scale of the last norm


def resnet_body(
    channels: int,
    width: int,
    depths: tuple[int, ...],
    *,
    zero_init_residual: bool,
    stem: Stem = "small",
) -> tuple[nn.Module, int]:
    """(body, F) of a residual network whose stages have `depths` blocks and doubling widths.

    Blocks start as in torchvision. The stem, which the released code exchanges after that, starts
    as any convolution of PyTorch.
    """
    layers = _stem(channels, width, stem)
    channels = width
    for stage, depth in enumerate(depths):
        for number in range(depth):
            stride = 2 if stage > 0 and number == 0 else 1
            block = BasicBlock(channels, width << stage, stride)
            block.start(zero_init_residual=zero_init_residual)
            layers.append(block)
            channels = width << stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), channels


def _stem(channels: int, width: int, stem: Stem) -> list[nn.Module]:
    """The layers before the first block; the large stem is that of the paper, for 224 pixels."""
    after = [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    if stem == "small":
        return [nn.Conv2d(channels, width, 3, padding=STEM_PADDING, bias=False), *after]
    convolution = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return [convolution, *after, nn.MaxPool2d(3, stride=2, padding=1)]
