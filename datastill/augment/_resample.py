"""Resample every image through its own affine map of coordinates."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def resample(
    images: Tensor,  # (B, C, H, W), floating point
    linear: Tensor,  # (B, 2, 2)
    shift: Tensor | None = None,  # (B, 2): x, y
    *,
    outside: Literal["zeros", "border"],
    corners_at_one: bool = False,
) -> Tensor:  # (B, C, H, W)
    """Read output pixel p bilinearly at linear·p + shift of the input.

    Coordinates run from -1 to 1 over the image: between the outer edges of the outer pixels, or
    between their centres if `corners_at_one`. Differentiable in the images; on CUDA that gradient
    is not bit-reproducible (torch has no deterministic backward of `grid_sample` there).
    """
    if shift is None:
        shift = linear.new_zeros(len(images), 2)
    theta = torch.cat([linear, shift[:, :, None]], dim=2)
    grid = F.affine_grid(theta, list(images.shape), align_corners=corners_at_one)
    return F.grid_sample(
        images, grid, mode="bilinear", padding_mode=outside, align_corners=corners_at_one
    )


def rotation(angle: Tensor) -> Tensor:  # (B,) radians -> (B, 2, 2)
    """Rotation matrices; as a map of coordinates they turn the image the other way round."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
