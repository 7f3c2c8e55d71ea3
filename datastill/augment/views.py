"""Two random views of every image, for self-supervised objectives.

The augmentation of SimCLR (Chen et al., ICML 2020), as Barlow Twins (Zbontar et al., ICML 2021)
uses it, with the sizes of small images: one resampling for all of the geometry and one linear map
for all of the colors.
"""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from datastill.augment.batch_ops import (
    BatchRandom,
    check_float_images,
    color_jitter,
    gaussian_blur,
    per_image,
    resample,
    rotation_matrix,
)
from datastill.core.errors import ConfigError, DataError
from datastill.core.options import check_bounds, option
from datastill.core.profile import profile_section

_BLUR_RADIUS = 4  # pixels; twice the widest standard deviation, 2


@dataclass(frozen=True)
class TwoViews:
    """Draw two views of each image; both follow the same distribution.

    Args:
        crop_scale_min: Smallest area of a crop as a share of the image's, in [0.01, 1]. A crop is
            resized to the whole image; its aspect is log-uniform between 3/4 and 4/3. 1 is off.
        flip: Share of images mirrored left to right, as all shares in [0, 1].
        rotate_degrees: Largest rotation, either way.
        shift: Largest shift, either way, as a share of the side.
        jitter: Largest changes of brightness, contrast, saturation and hue, the last in turns. For
            images of one channel saturation and hue have no effect.
        jitter_probability: Share of images whose colors are jittered.
        grayscale: Share of images turned to grey.
        invert: Share of images whose pixels are inverted.
        blur: Share of images blurred by a Gaussian of 0.1 to 2 pixels.
        solarize: Share of images whose pixels of 0.5 and more are inverted.
        noise_std: Standard deviation of Gaussian noise, in unit pixels.

    Raises:
        ConfigError: An option is outside its range.

    Example:
        >>> import torch
        >>> images = torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        >>> two_views = TwoViews(flip=0.0, shift=0.1)
        >>> view_a, view_b = two_views(images, torch.Generator().manual_seed(1))
        >>> view_a.shape, view_b.shape
        (torch.Size([8, 1, 28, 28]), torch.Size([8, 1, 28, 28]))
    """

    crop_scale_min: float = option(
        0.2,
        "a crop has at least this share of the area and is resized to the whole; 1 = off",
        at_least=0.01,
        at_most=1,
    )
    flip: float = option(
        0.5, "share mirrored left to right; 0 for letters and digits", at_least=0, at_most=1
    )
    rotate_degrees: float = option(0.0, "largest rotation, either way", at_least=0, at_most=180)
    shift: float = option(
        0.0, "largest shift, either way, as a share of the side", at_least=0, at_most=1
    )
    jitter: tuple[float, float, float, float] = option(
        (0.4, 0.4, 0.2, 0.1),
        "largest change of brightness, contrast, saturation and hue (turns)",
        at_least=0,
    )
    jitter_probability: float = option(
        0.8, "share of images whose colors are jittered", at_least=0, at_most=1
    )
    grayscale: float = option(0.2, "share of images turned to grey", at_least=0, at_most=1)
    invert: float = option(0.0, "share of images whose pixels are inverted", at_least=0, at_most=1)
    blur: float = option(
        0.0, "share of images blurred, with a width of 0.1 to 2 pixels", at_least=0, at_most=1
    )
    solarize: float = option(
        0.0, "share of images whose upper half of brightness is inverted", at_least=0, at_most=1
    )
    noise_std: float = option(
        0.0, "standard deviation of added noise, in unit pixels", at_least=0, at_most=1
    )

    def __post_init__(self) -> None:
        check_bounds(self)
        if max(self.jitter[:3]) > 1 or self.jitter[3] > 0.5:
            raise ConfigError(
                f"jitter={self.jitter} must be brightness, contrast and saturation in [0, 1]"
                " and hue in [0, 0.5]"
            )

    @profile_section("two views")
    def __call__(self, unit_pixels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw both views of a batch.

        Args:
            unit_pixels: (B, C, H, W) floating point in [0, 1], C = 1 or 3.
            generator: CPU generator, the source of all randomness.

        Returns:
            View a and view b, both (B, C, H, W) in [0, 1].

        Raises:
            DataError: The images are not floating point, have other than one or three channels,
                or are too small for a blur.
        """
        self._check(unit_pixels)
        x = torch.cat([unit_pixels, unit_pixels])
        random = BatchRandom(generator, x)
        x = self._geometric(x, random)
        x = self._colors(x, random)
        x = self._blur_and_solarize(x, random)
        if self.noise_std:
            noise = torch.randn(x.shape, generator=generator).to(x, non_blocking=True)
            x = (x + self.noise_std * noise).clamp_(0, 1)
        view_a, view_b = x.chunk(2)
        return view_a, view_b

    def _geometric(self, x: Tensor, random: BatchRandom) -> Tensor:
        """Crop, flip, rotate and shift as one affine map of coordinates."""
        if self.crop_scale_min == 1 and not (self.flip or self.rotate_degrees or self.shift):
            return x
        area = random.uniform(self.crop_scale_min, 1)
        # only aspects with which the crop fits; torchvision draws the area again instead
        max_log_aspect = torch.clamp(-area.log(), max=math.log(4 / 3))
        stretch = (random.uniform(-0.5, 0.5) * max_log_aspect).exp()  # square root of the aspect
        sides = torch.stack([area.sqrt() * stretch, area.sqrt() / stretch], 1)  # (B, 2): x, y
        shift_x, shift_y = random.uniform(-1, 1), random.uniform(-1, 1)
        translation = torch.stack([shift_x, shift_y], 1) * (1 - sides)
        if self.shift:
            shifts = [random.uniform(-2 * self.shift, 2 * self.shift) for _ in range(2)]
            translation = translation + torch.stack(shifts, 1)  # coordinates: an image is 2 wide
        mirror = torch.where(random.bernoulli(self.flip), -1.0, 1.0).to(x.dtype)
        linear = (sides * torch.stack([mirror, torch.ones_like(mirror)], 1)).diag_embed()
        if self.rotate_degrees:
            angle = random.uniform(-1, 1) * math.radians(self.rotate_degrees)
            linear = rotation_matrix(angle) @ linear
        # the border is repeated, as black corners would reveal the angle
        return resample(x, linear, translation, padding_mode="border")

    def _colors(self, x: Tensor, random: BatchRandom) -> Tensor:
        """Jitter and remove colors, then invert."""
        brightness, contrast, saturation, hue = self.jitter
        jittered = random.bernoulli(self.jitter_probability)

        def around(neutral: float, width: float) -> Tensor:
            return torch.where(jittered, random.uniform(neutral - width, neutral + width), neutral)

        factors = [around(1, width) for width in (brightness, contrast, saturation)]
        hue_radians = around(0, 2 * math.pi * hue)
        keeps_color = (~random.bernoulli(self.grayscale)).to(x.dtype)
        x = color_jitter(
            x,
            brightness=factors[0],
            contrast=factors[1],
            saturation=factors[2] * keeps_color,  # saturation zero is grey, whatever the hue
            hue_radians=hue_radians,
        ).clamp_(0, 1)
        return torch.where(per_image(random.bernoulli(self.invert)), 1 - x, x) if self.invert else x

    def _blur_and_solarize(self, x: Tensor, random: BatchRandom) -> Tensor:
        if self.blur:
            sigma = random.uniform(0.1, _BLUR_RADIUS / 2)
            blurred = gaussian_blur(x, sigma, radius=_BLUR_RADIUS)
            x = torch.where(per_image(random.bernoulli(self.blur)), blurred, x)
        if self.solarize:
            solarized = torch.where(x >= 0.5, 1 - x, x)  # the threshold of Barlow Twins
            x = torch.where(per_image(random.bernoulli(self.solarize)), solarized, x)
        return x

    def _check(self, unit_pixels: Tensor) -> None:
        check_float_images(unit_pixels, caller="TwoViews")
        _, channels, height, width = unit_pixels.shape
        if channels not in (1, 3):
            raise DataError(f"TwoViews takes one or three channels, got {channels}")
        if self.blur and min(height, width) <= _BLUR_RADIUS:
            raise DataError(
                f"images of {height} x {width} pixels are too small to blur; set blur to 0"
            )
