"""One random number per image, from a generator that was passed in."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class Draws:
    """Draws for a batch: taken from a CPU generator, put where the images are.

    So the same generator gives the same numbers on every device. With `siamese` one number is
    drawn and given to all images, however many there are.
    """

    generator: Generator
    images: Tensor  # (B, ...), floating point: count, device and type of the numbers
    siamese: bool = False

    def uniform(self, low: float, high: float) -> Tensor:  # (B,)
        """Uniform in [low, high)."""
        # always drawn in float32, so that the stream does not depend on the type of the images
        share = torch.rand(self._drawn, generator=self.generator)
        return self._spread((share * (high - low) + low).to(self.images.dtype))

    def integers(self, low: int, high: int) -> Tensor:  # (B,) int64
        """Uniform among low, …, high - 1."""
        return self._spread(torch.randint(low, high, (self._drawn,), generator=self.generator))

    def chance(self, probability: float) -> Tensor:  # (B,) bool
        """True with the given probability."""
        return self._spread(torch.rand(self._drawn, generator=self.generator) < probability)

    @property
    def _drawn(self) -> int:
        return 1 if self.siamese else len(self.images)

    def _spread(self, drawn: Tensor) -> Tensor:
        return drawn.to(self.images.device, non_blocking=True).expand(len(self.images))


def per_image(numbers: Tensor) -> Tensor:  # (B,) -> (B, 1, 1, 1)
    """Line numbers up with images (B, C, H, W)."""
    return numbers[:, None, None, None]
