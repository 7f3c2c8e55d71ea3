"""Differentiable Siamese augmentation (Zhao & Bilen, ICML 2021).

One of six strategies is drawn for a batch, and its amount for each image: the mode in which the
official code of KRR-ST pre-trains its baselines.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from datastill.augment._checks import check_float_images, check_range
from datastill.augment._resample import resample, rotation
from datastill.augment._sampling import Draws, per_image
from datastill.augment._windows import read_window
from datastill.ground.errors import ConfigError
from datastill.ground.lookup import check_name
from datastill.ground.options import check_bounds, option


@dataclass(frozen=True)
class Dsa:
    """Draw one strategy per batch and apply it; differentiable in the images.

    It works on normalized pixels, whose zero, the mean color, fills what comes into the picture.
    """

    strategies: tuple[str, ...] = option(
        ("color", "crop", "cutout", "flip", "scale", "rotate"), "one of these is drawn per batch"
    )
    flip_probability: float = option(0.5, "flip: share of images mirrored left to right")
    scale: float = option(1.2, "scale: each side is shrunk or grown by up to this factor")
    rotate_degrees: float = option(15.0, "rotate: largest angle, either way")
    crop_of_side: float = option(0.125, "crop: largest shift, as a share of the side")
    cutout_of_side: float = option(0.5, "cutout: side of the hole, as a share of the side")
    brightness: float = option(1.0, "color: width of the interval of added brightness")
    saturation: float = option(2.0, "color: largest factor on differences between channels")
    contrast: float = option(0.5, "color: smallest factor on contrast; the largest is one more")

    def __post_init__(self) -> None:
        check_bounds(self)
        for name in self.strategies:
            check_name(name, _STRATEGIES, kind="strategies of Dsa")
        check_range("flip_probability", self.flip_probability, 0, 1)
        check_range("crop_of_side", self.crop_of_side, 0, 1)
        check_range("cutout_of_side", self.cutout_of_side, 0, 1)
        if self.scale < 1:
            raise ConfigError(f"scale={self.scale} must be one or more")

    def __call__(self, x: Tensor, generator: Generator, *, siamese: bool = False) -> Tensor:
        """Augment normalized pixels x (B, C, H, W); all randomness is from the CPU `generator`.

        With `siamese` all images get the same amounts, and so does any other batch that comes
        with a generator in the same state, whatever its size. Without strategies, x itself.

        Raises:
            DataError: x is not floating-point (B, C, H, W).
        """
        check_float_images(x, who="Dsa")
        if not self.strategies:
            return x
        drawn = int(torch.randint(len(self.strategies), (), generator=generator))
        return _STRATEGIES[self.strategies[drawn]](self, x, Draws(generator, x, siamese))


def _color(dsa: Dsa, x: Tensor, draws: Draws) -> Tensor:
    """Brightness, then saturation about the grey image, then contrast about the mean grey."""
    x = x + per_image(draws.uniform(-0.5, 0.5)) * dsa.brightness
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * per_image(draws.uniform(0, dsa.saturation))
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * per_image(draws.uniform(dsa.contrast, dsa.contrast + 1))


def _crop(dsa: Dsa, x: Tensor, draws: Draws) -> Tensor:
    """Shift by whole pixels, zeros coming in: a crop of the padded image."""
    height, width = x.shape[2:]
    down, right = _round(height * dsa.crop_of_side), _round(width * dsa.crop_of_side)
    top, left = draws.integers(0, 2 * down + 1), draws.integers(0, 2 * right + 1)
    return read_window(
        F.pad(x, [right, right, down, down]),
        top[:, None] + torch.arange(height, device=x.device),
        left[:, None] + torch.arange(width, device=x.device),
    )


def _cutout(dsa: Dsa, x: Tensor, draws: Draws) -> Tensor:
    """Zero a rectangle whose centre is anywhere in the image, so that it may stick out."""
    holes = [
        _hole(length, _round(length * dsa.cutout_of_side), draws)  # (B, H), then (B, W)
        for length in x.shape[2:]
    ]
    hole = holes[0][:, None, :, None] & holes[1][:, None, None, :]
    return x.masked_fill(hole, 0)


def _hole(length: int, size: int, draws: Draws) -> Tensor:  # (B, length) bool
    centre = draws.integers(0, length + 1 - size % 2)
    distance = torch.arange(length, device=centre.device) - (centre - size // 2)[:, None]
    return (distance >= 0) & (distance < size)


def _flip(dsa: Dsa, x: Tensor, draws: Draws) -> Tensor:
    """Mirror left to right."""
    return torch.where(per_image(draws.chance(dsa.flip_probability)), x.flip(3), x)


def _scale(dsa: Dsa, x: Tensor, draws: Draws) -> Tensor:
    """Stretch width and height, each by its own factor on the coordinates."""
    factors = [draws.uniform(1 / dsa.scale, dsa.scale) for _ in range(2)]
    linear = torch.stack(factors, 1).diag_embed()
    return resample(x, linear, outside="zeros", corners_at_one=True)


def _rotate(dsa: Dsa, x: Tensor, draws: Draws) -> Tensor:
    """Turn about the centre."""
    angle = draws.uniform(-1, 1) * math.radians(dsa.rotate_degrees)
    return resample(x, rotation(angle), outside="zeros", corners_at_one=True)


def _round(pixels: float) -> int:
    """Halves go up, as in the reference; Python's `round` takes them to the even neighbour."""
    return int(pixels + 0.5)


_STRATEGIES: dict[str, Callable[[Dsa, Tensor, Draws], Tensor]] = {
    "color": _color,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
}
