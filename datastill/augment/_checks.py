"""Refuse images that an augmentation cannot take."""

from torch import Tensor

from datastill.ground.errors import ConfigError, DataError


def check_float_images(images: Tensor, *, who: str) -> None:
    """Ask for floating-point (B, C, H, W).

    Raises:
        DataError: the shape or the type is another one.
    """
    if images.ndim != 4 or not images.is_floating_point():
        raise DataError(
            f"{who} takes floating-point images (B, C, H, W),"
            f" got {images.dtype} {tuple(images.shape)}; divide bytes by 255 first"
        )


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Ask for an option between `low` and `high`, both included.

    Raises:
        ConfigError: it is outside.
    """
    if not low <= value <= high:
        raise ConfigError(f"{name}={value} is outside of [{low:g}, {high:g}]")
