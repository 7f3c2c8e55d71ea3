"""Gaussian blur with its own width for every image."""

import torch
import torch.nn.functional as F
from torch import Tensor


def blur(
    images: Tensor,  # (B, C, H, W), H and W above `radius`
    sigma: Tensor,  # (B,) standard deviation in pixels, > 0
    *,
    radius: int,
) -> Tensor:  # (B, C, H, W)
    """Gaussian blur, cut off at `radius` pixels; the image is mirrored at its edges."""
    count, channels, height, width = images.shape
    distance = torch.arange(-radius, radius + 1, device=images.device)
    kernel = (-0.5 * (distance / sigma[:, None]).square()).softmax(1)  # (B, 2·radius + 1)
    kernel = kernel.repeat_interleave(channels, 0)[:, None]
    # every channel of every image is a group of its own: a kernel per image in one call
    x = F.pad(images, [radius] * 4, mode="reflect").view(
        1, count * channels, -1, width + 2 * radius
    )
    x = F.conv2d(x, kernel[:, :, :, None], groups=count * channels)
    x = F.conv2d(x, kernel[:, :, None, :], groups=count * channels)
    return x.view(count, channels, height, width)
