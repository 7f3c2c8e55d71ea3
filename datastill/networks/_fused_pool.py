"""ReLU and 2x2 average pooling in one layer, whose backward pass writes the gradient once.

PyTorch's own pair fills a gradient of the map's size with zeros, adds to it, and masks it in a
second pass and a second tensor.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FusedReLUAvgPool(nn.Module):
    """`AvgPool2d(2)(ReLU(inplace=True)(x))`, equal to the bit; a last odd row or column is dropped.

    Maps (B, C, H, W) to (B, C, H // 2, W // 2). It overwrites its input, as an in-place ReLU does,
    and can be differentiated any number of times.

    Example:
        >>> x = torch.tensor([[[[1.0, -1.0], [3.0, -5.0]]]])
        >>> FusedReLUAvgPool()(x).item()
        1.0
    """

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = _ReLUAvgPool.apply(x)  # type: ignore[no-untyped-call]
        return pooled


class _ReLUAvgPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        # autograd notes that x has changed: it refuses to go back through a layer that kept x
        rectified = x.detach().relu_()
        ctx.save_for_backward(rectified)
        return F.avg_pool2d(rectified, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (rectified,), gradient = ctx.saved_tensors, gradient / 4
        if rectified.is_contiguous(memory_format=torch.channels_last):
            gradient = gradient.contiguous(memory_format=torch.channels_last)
        height, width = gradient.shape[2:]
        squares = rectified[:, :, : 2 * height, : 2 * width].unflatten(3, (width, 2))
        squares = squares.unflatten(2, (height, 2))  # (B, C, H // 2, 2, W // 2, 2)
        expanded = gradient[:, :, :, None, :, None].expand_as(squares)
        # the gradient of ReLU: 0 where the output is 0
        grad_input = torch.ops.aten.threshold_backward(expanded, squares, 0)
        grad_input = grad_input.flatten(4, 5).flatten(2, 3)
        dropped = rectified.shape[3] - 2 * width, rectified.shape[2] - 2 * height
        return F.pad(grad_input, (0, dropped[0], 0, dropped[1])) if any(dropped) else grad_input
