"""ReLU and average pooling in one, so that a gradient is written once on its way back.

PyTorch's own pair fills a gradient of the map's size with zeros, adds to it, and masks it in a
second pass and a second tensor.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RectifiedMean(nn.Module):
    """`AvgPool2d(2)(ReLU(inplace=True)(x))`, to the bit: (B, C, H, W) -> (B, C, H // 2, W // 2).

    It overwrites x, and can be differentiated any number of times.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The mean of max(x, 0) over squares of 2 x 2; a last odd row or column is left out."""
        mean: Tensor = _RectifiedMean.apply(x)  # type: ignore[no-untyped-call]
        return mean


class _RectifiedMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        rectified = x.detach().relu_()  # autograd notes that x has changed, and would refuse
        ctx.save_for_backward(rectified)  # to go back through what had kept x itself
        return F.avg_pool2d(rectified, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,), gradient = ctx.saved_tensors, gradient / 4
        if x.is_contiguous(memory_format=torch.channels_last):
            gradient = gradient.contiguous(memory_format=torch.channels_last)
        height, width = gradient.shape[2:]
        squares = x[:, :, : 2 * height, : 2 * width].unflatten(3, (width, 2))
        squares = squares.unflatten(2, (height, 2))  # (B, C, H // 2, 2, W // 2, 2)
        each = gradient[:, :, :, None, :, None].expand_as(squares)
        back = torch.ops.aten.threshold_backward(each, squares, 0)  # that of ReLU: 0 where x is 0
        back = back.flatten(4, 5).flatten(2, 3)
        left = x.shape[3] - 2 * width, x.shape[2] - 2 * height
        return F.pad(back, (0, left[0], 0, left[1])) if any(left) else back
