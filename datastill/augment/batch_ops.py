"""Random numbers and image operations that change every image of a batch by another amount.

All operations are vectorised over the batch and differentiable in the images.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from datastill.core.errors import DataError

_RGB_TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


@dataclass(frozen=True)
class BatchRandom:
    """Draw one random number per image of a batch.

    Numbers are drawn on the CPU in float32 and then moved, so that a generator in the same state
    gives the same numbers on every device and for every type of images.

    Args:
        generator: CPU generator; its state advances.
        images: (B, ...) floating point; gives the count, device and type of the numbers.
        siamese: Draw a single number and give it to all images.
    """

    generator: Generator
    images: Tensor
    siamese: bool = False

    def uniform(self, low: float, high: float) -> Tensor:  # (B,)
        """Draw uniformly from [low, high), in the type of the images."""
        unit = torch.rand(self._count, generator=self.generator)
        return self._expand((unit * (high - low) + low).to(self.images.dtype))

    def integers(self, low: int, high: int) -> Tensor:  # (B,) int64
        """Draw uniformly from low, ..., high - 1."""
        return self._expand(torch.randint(low, high, (self._count,), generator=self.generator))

    def bernoulli(self, probability: float) -> Tensor:  # (B,) bool
        """Draw True with the given probability."""
        return self._expand(torch.rand(self._count, generator=self.generator) < probability)

    @property
    def _count(self) -> int:
        return 1 if self.siamese else len(self.images)

    def _expand(self, numbers: Tensor) -> Tensor:
        return numbers.to(self.images.device, non_blocking=True).expand(len(self.images))


def per_image(numbers: Tensor) -> Tensor:  # (B,) -> (B, 1, 1, 1)
    """Reshape one number per image so that it broadcasts over images (B, C, H, W)."""
    return numbers[:, None, None, None]


def gather_window(
    images: Tensor,  # (B, C, H, W), any type
    rows: Tensor,  # (B, h) int64 in [0, H)
    columns: Tensor,  # (B, w) int64 in [0, W)
) -> Tensor:  # (B, C, h, w)
    """Read images[b, :, rows[b], columns[b]] for every image b."""
    count, channels, _, width = images.shape
    pixels = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)  # (B, h·w)
    # four times as fast on a CPU as indexing with four broadcast index tensors
    window = images.flatten(2).gather(2, pixels[:, None].expand(-1, channels, -1))
    return window.view(count, channels, rows.shape[1], columns.shape[1])


def resample(
    images: Tensor,  # (B, C, H, W), floating point
    linear: Tensor,  # (B, 2, 2)
    translation: Tensor | None = None,  # (B, 2): x, y
    *,
    padding_mode: Literal["zeros", "border"],
    align_corners: bool = False,
) -> Tensor:  # (B, C, H, W)
    """Set output pixel p to the input at linear·p + translation, interpolated bilinearly.

    Coordinates run from -1 to 1 over the image: between the outer edges of the outer pixels, or
    between their centres with `align_corners`. On CUDA the gradient in the images is not
    bit-reproducible, as torch has no deterministic backward pass of `grid_sample` there.
    """
    if translation is None:
        translation = linear.new_zeros(len(images), 2)
    theta = torch.cat([linear, translation[:, :, None]], dim=2)
    grid = F.affine_grid(theta, list(images.shape), align_corners=align_corners)
    return F.grid_sample(images, grid, padding_mode=padding_mode, align_corners=align_corners)


def rotation_matrix(angle: Tensor) -> Tensor:  # (B,) radians -> (B, 2, 2)
    """Make rotation matrices; as `linear` of `resample` they turn images the other way round."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)


def color_jitter(
    x: Tensor,  # (B, C, H, W) unit pixels, C = 1 or 3
    *,
    brightness: Tensor,  # (B,) factor
    contrast: Tensor,  # (B,) factor on the distance from the mean grey of the image
    saturation: Tensor,  # (B,) factor on the distance from grey; zero makes it grey
    hue_radians: Tensor,  # (B,) rotation of the color plane
) -> Tensor:  # (B, C, H, W), not clamped
    """Change brightness, contrast, saturation and hue, in this order, by one linear map.

    All four are linear in the channels, so their product is applied once, ten times as fast as one
    after the other in HSV. Two differences from torchvision and kornia follow: values are not
    clamped in between, and hue is a rotation of the color plane of YIQ, which keeps the luma. With
    one channel, saturation and hue have no effect.
    """
    to_grey, quarter_turn = _color_planes(x.shape[1], x.device, x.dtype)
    luma = (x.mean((2, 3)) @ to_grey[0]) * brightness  # (B,) mean grey after the brightness
    pixels = x.flatten(2)
    gain, offset = (brightness * contrast)[:, None, None], ((1 - contrast) * luma)[:, None, None]
    if x.shape[1] == 1:
        return (pixels * gain + offset).view_as(x)
    along = (saturation * hue_radians.cos())[:, None, None]
    across = (saturation * hue_radians.sin())[:, None, None]
    identity = torch.eye(3, device=x.device, dtype=x.dtype)
    # grey + saturation · (rotated color); neither changes the grey offset of the contrast
    mix = gain * (to_grey + along * (identity - to_grey) + across * quarter_turn)  # (B, 3, 3)
    return torch.baddbmm(offset, mix, pixels).view_as(x)


# cached on the device: a copy from the host in every step would wait for the GPU
@lru_cache(maxsize=16)
def _color_planes(channels: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return (projection of colors on grey, quarter turn of the color plane), both (C, C)."""
    if channels == 1:
        return torch.ones(1, 1).to(device, dtype), torch.zeros(1, 1).to(device, dtype)
    yiq = torch.tensor(_RGB_TO_YIQ, dtype=torch.float64)
    turn = torch.tensor([[0, 0, 0], [0, 0, 1], [0, -1, 0]], dtype=torch.float64)
    quarter_turn = torch.linalg.solve(yiq, turn @ yiq)
    return yiq[0].expand(3, 3).to(device, dtype), quarter_turn.to(device, dtype)


def gaussian_blur(
    images: Tensor,  # (B, C, H, W), H and W above `radius`
    sigma: Tensor,  # (B,) standard deviation in pixels, > 0
    *,
    radius: int,
) -> Tensor:  # (B, C, H, W)
    """Blur with a Gaussian cut off at `radius` pixels; images are mirrored at their edges."""
    count, channels, height, width = images.shape
    distance = torch.arange(-radius, radius + 1, device=images.device)
    kernel = (-0.5 * (distance / sigma[:, None]).square()).softmax(1)  # (B, 2·radius + 1)
    kernel = kernel.repeat_interleave(channels, 0)[:, None]
    # every channel of every image is a separate group: a kernel per image in one call
    groups = count * channels
    x = F.pad(images, [radius] * 4, mode="reflect").view(1, groups, -1, width + 2 * radius)
    x = F.conv2d(x, kernel[:, :, :, None], groups=groups)
    x = F.conv2d(x, kernel[:, :, None, :], groups=groups)
    return x.view(count, channels, height, width)


def check_float_images(images: Tensor, *, caller: str) -> None:
    """Check that images are floating point and (B, C, H, W).

    Raises:
        DataError: They are not.
    """
    if images.ndim != 4 or not images.is_floating_point():
        raise DataError(
            f"{caller} takes floating-point images (B, C, H, W),"
            f" got {images.dtype} {tuple(images.shape)}; divide bytes by 255 first"
        )
