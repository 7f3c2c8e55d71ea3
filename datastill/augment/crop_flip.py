"""Random crop of the padded image and horizontal flip: a finite set of numbered views."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from datastill.augment.batch_ops import gather_window
from datastill.core.errors import DataError
from datastill.core.options import check_bounds, option


@dataclass(frozen=True)
class CropFlip:
    """Crop at one of (2·padding + 1)² offsets of the zero-padded image, then flip or not.

    A view number stands for one (offset, flip), the same for every image, so that the outputs of a
    network for (image, view) can be cached. As in the official code of KRR-ST zeros are black:
    crop bytes or unit pixels, and normalize afterwards.

    Args:
        padding: Pixels added on each side before a crop of the old size.
        flip: Flip half of the views left to right.

    Raises:
        ConfigError: The padding is negative.

    Example:
        >>> import torch
        >>> crop_flip = CropFlip(padding=4)
        >>> crop_flip.views
        162
        >>> images = torch.zeros(8, 3, 32, 32, dtype=torch.uint8)
        >>> view = crop_flip.draw(8, torch.Generator().manual_seed(0))
        >>> crop_flip(images, view).shape
        torch.Size([8, 3, 32, 32])
    """

    padding: int = option(4, "pixels added on each side before a crop of the old size", at_least=0)
    flip: bool = option(True, "flip half of the views left to right; off for letters and digits")

    def __post_init__(self) -> None:
        check_bounds(self)

    @property
    def views(self) -> int:
        """Number of different views: (2·padding + 1)², twice that with flips."""
        return self._offsets**2 * self._flips

    @property
    def identity(self) -> int:
        """Number of the view that changes nothing: the centre crop, not flipped."""
        return (self.padding * self._offsets + self.padding) * self._flips

    def draw(self, count: int, generator: Generator) -> Tensor:  # (count,) int64
        """Draw view numbers uniformly from [0, views), on the CPU."""
        return torch.randint(self.views, (count,), generator=generator)

    def __call__(self, images: Tensor, view: Tensor) -> Tensor:
        """Return view number `view[b]` of image b.

        Args:
            images: (B, C, H, W) of any number type.
            view: (B,) int64 on any device.

        Returns:
            (B, C, H, W) of the type and on the device of `images`.

        Raises:
            DataError: The shapes do not fit, or a view number is outside of [0, views). The range
                is not checked on a GPU, where reading the numbers would wait for the queue.
        """
        self._check(images, view)
        view = view.to(images.device, non_blocking=True)
        offset, flipped = view // self._flips, view % self._flips
        height, width = images.shape[2:]
        row = torch.arange(height, device=view.device)
        column = torch.arange(width, device=view.device)
        column = torch.where(flipped[:, None] == 1, width - 1 - column, column)  # (B, W)
        return gather_window(
            F.pad(images, [self.padding] * 4),
            (offset // self._offsets)[:, None] + row,
            (offset % self._offsets)[:, None] + column,
        )

    @property
    def _offsets(self) -> int:
        return 2 * self.padding + 1

    @property
    def _flips(self) -> int:
        return 2 if self.flip else 1

    def _check(self, images: Tensor, view: Tensor) -> None:
        if images.ndim != 4 or view.shape != images.shape[:1]:
            raise DataError(
                f"need images (B, C, H, W) and views (B,),"
                f" got {tuple(images.shape)} and {tuple(view.shape)}"
            )
        if view.device.type == "cpu" and ((view < 0) | (view >= self.views)).any():
            raise DataError(
                f"{self!r} has views 0 to {self.views - 1},"
                f" got {int(view.min())} to {int(view.max())}"
            )
