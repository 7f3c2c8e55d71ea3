"""Differentiable Siamese augmentation (Zhao & Bilen, ICML 2021)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from datastill.augment.batch_ops import (
    BatchRandom,
    check_float_images,
    gather_window,
    per_image,
    resample,
    rotation_matrix,
)
from datastill.core.lookup import check_name
from datastill.core.options import check_bounds, option


@dataclass(frozen=True)
class Dsa:
    """Augment a batch by one of six strategies, drawn per batch, with an amount drawn per image.

    This is the mode in which the official code of KRR-ST pre-trains its baselines. It works on
    normalized pixels and is differentiable in them; pixels that enter the picture are zero, the
    mean color.

    Args:
        strategies: Names of the strategies to draw from; without any the images stay as they are.
        flip_probability: Share of images that `flip` mirrors left to right.
        scale: Largest factor, and one over the smallest, by which `scale` stretches each side.
        rotate_degrees: Largest angle of `rotate`, either way.
        crop_of_side: Largest shift of `crop`, as a share of the side.
        cutout_of_side: Side of the hole of `cutout`, as a share of the side.
        brightness: Width of the interval of brightness that `color` adds.
        saturation: Largest factor of `color` on differences between channels.
        contrast: Smallest factor of `color` on contrast; the largest is one more.

    Raises:
        ConfigError: A strategy is unknown or an option outside its range.

    Example:
        >>> import torch
        >>> images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> augmented = Dsa()(images, torch.Generator().manual_seed(1))
        >>> augmented.shape
        torch.Size([8, 3, 32, 32])
        >>> again = Dsa()(images, torch.Generator().manual_seed(1))
        >>> torch.equal(augmented, again)
        True
    """

    strategies: tuple[str, ...] = option(
        ("color", "crop", "cutout", "flip", "scale", "rotate"), "one of these is drawn per batch"
    )
    flip_probability: float = option(
        0.5, "flip: share of images mirrored left to right", at_least=0, at_most=1
    )
    scale: float = option(
        1.2, "scale: each side is shrunk or grown by up to this factor", at_least=1
    )
    rotate_degrees: float = option(15.0, "rotate: largest angle, either way")
    crop_of_side: float = option(
        0.125, "crop: largest shift, as a share of the side", at_least=0, at_most=1
    )
    cutout_of_side: float = option(
        0.5, "cutout: side of the hole, as a share of the side", at_least=0, at_most=1
    )
    brightness: float = option(1.0, "color: width of the interval of added brightness")
    saturation: float = option(2.0, "color: largest factor on differences between channels")
    contrast: float = option(0.5, "color: smallest factor on contrast; the largest is one more")

    def __post_init__(self) -> None:
        check_bounds(self)
        for name in self.strategies:
            check_name(name, _STRATEGIES, kind="strategies of Dsa")

    def __call__(self, x: Tensor, generator: Generator, *, siamese: bool = False) -> Tensor:
        """Augment a batch of images.

        Args:
            x: (B, C, H, W) normalized pixels, floating point.
            generator: CPU generator, the source of all randomness.
            siamese: Give all images the same amounts. Any other batch gets these amounts too if
                its generator is in the same state, whatever its size.

        Returns:
            (B, C, H, W) of the same type and on the same device.

        Raises:
            DataError: `x` is not floating-point (B, C, H, W).
        """
        check_float_images(x, caller="Dsa")
        if not self.strategies:
            return x
        choice = int(torch.randint(len(self.strategies), (), generator=generator))
        return _STRATEGIES[self.strategies[choice]](self, x, BatchRandom(generator, x, siamese))


def _color(dsa: Dsa, x: Tensor, random: BatchRandom) -> Tensor:
    """Change brightness, then saturation about the grey image, then contrast about its mean."""
    x = x + per_image(random.uniform(-0.5, 0.5)) * dsa.brightness
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * per_image(random.uniform(0, dsa.saturation))
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * per_image(random.uniform(dsa.contrast, dsa.contrast + 1))


def _crop(dsa: Dsa, x: Tensor, random: BatchRandom) -> Tensor:
    """Crop the zero-padded image: a shift by whole pixels."""
    height, width = x.shape[2:]
    down, right = _round(height * dsa.crop_of_side), _round(width * dsa.crop_of_side)
    top, left = random.integers(0, 2 * down + 1), random.integers(0, 2 * right + 1)
    return gather_window(
        F.pad(x, [right, right, down, down]),
        top[:, None] + torch.arange(height, device=x.device),
        left[:, None] + torch.arange(width, device=x.device),
    )


def _cutout(dsa: Dsa, x: Tensor, random: BatchRandom) -> Tensor:
    """Zero a rectangle whose centre is anywhere in the image, so that it may stick out."""
    inside = []  # (B, H) and (B, W) bool: rows and columns of the hole
    for length in x.shape[2:]:
        size = _round(length * dsa.cutout_of_side)
        centre = random.integers(0, length + 1 - size % 2)
        distance = torch.arange(length, device=x.device) - (centre - size // 2)[:, None]
        inside.append((distance >= 0) & (distance < size))
    return x.masked_fill(inside[0][:, None, :, None] & inside[1][:, None, None, :], 0)


def _flip(dsa: Dsa, x: Tensor, random: BatchRandom) -> Tensor:
    return torch.where(per_image(random.bernoulli(dsa.flip_probability)), x.flip(3), x)


def _scale(dsa: Dsa, x: Tensor, random: BatchRandom) -> Tensor:
    """Stretch width and height, each by another factor."""
    factors = [random.uniform(1 / dsa.scale, dsa.scale) for _ in range(2)]
    linear = torch.stack(factors, 1).diag_embed()
    return resample(x, linear, padding_mode="zeros", align_corners=True)


def _rotate(dsa: Dsa, x: Tensor, random: BatchRandom) -> Tensor:
    angle = random.uniform(-1, 1) * math.radians(dsa.rotate_degrees)
    return resample(x, rotation_matrix(angle), padding_mode="zeros", align_corners=True)


def _round(pixels: float) -> int:
    """Round halves up, as the reference does; Python's `round` takes them to the even neighbour."""
    return int(pixels + 0.5)


_STRATEGIES: dict[str, Callable[[Dsa, Tensor, BatchRandom], Tensor]] = {
    "color": _color,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
}
