"""Residual networks with the stem for small images (He et al., CVPR 2016).

The stem is a 3x3 convolution of stride 1 without max-pooling. Its padding is 2, as in the
released code of KRR-ST, so that a 32x32 image gives 34x34 maps (docs/fidelity.md#stem).
"""

import torch
from torch import Tensor, nn

STEM_PADDING = 2


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            convolution = nn.Conv2d(channels, width, 1, stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, width, H/stride, W/stride)
        """ReLU of residual plus shortcut."""
        return torch.relu(self.residual(x) + self.shortcut(x))


def resnet_body(channels: int, width: int, depths: tuple[int, ...]) -> tuple[nn.Module, int]:
    """(body, F) of a residual network whose stages have `depths` blocks and doubling widths.

    Convolutions start with He's normal initialisation by fan-out, as in torchvision.
    """
    stem = nn.Conv2d(channels, width, 3, padding=STEM_PADDING, bias=False)
    layers: list[nn.Module] = [stem, nn.BatchNorm2d(width), nn.ReLU()]
    channels = width
    for stage, depth in enumerate(depths):
        for block in range(depth):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(BasicBlock(channels, width << stage, stride))
            channels = width << stage
    body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return body, channels
