"""Two random views of every image, for self-supervision: crops, colors and noise, vectorised.

The recipe is that of SimCLR (Chen et al., ICML 2020) as Barlow Twins (Zbontar et al., ICML 2021)
uses it, at the sizes of small images. All operations are our own: one resampling for all of the
geometry and one linear map for all of the colors, drawn from a generator that is passed in.
"""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from datastill.augment._blur import blur
from datastill.augment._checks import check_float_images, check_range
from datastill.augment._color import recolor
from datastill.augment._resample import resample, rotation
from datastill.augment._sampling import Draws, per_image
from datastill.ground.errors import ConfigError, DataError
from datastill.ground.options import check_bounds, option
from datastill.ground.profile import part_of_step

_BLUR_RADIUS = 4  # pixels; twice the widest standard deviation, 2


@dataclass(frozen=True)
class TwoViews:
    """Draw two views of each image in unit pixels; both views follow the same distribution.

    Images have one or three channels; with one, jitter means brightness and contrast only.
    """

    crop_scale_min: float = option(
        0.2, "a crop has at least this share of the area and is resized to the whole; 1 = off"
    )
    flip: float = option(0.5, "share mirrored left to right; 0 for letters and digits")
    rotate_degrees: float = option(0.0, "largest rotation, either way")
    shift: float = option(0.0, "largest shift, either way, as a share of the side")
    jitter: tuple[float, float, float, float] = option(
        (0.4, 0.4, 0.2, 0.1),
        "largest change of brightness, contrast, saturation and hue (turns)",
        at_least=0,
    )
    jitter_probability: float = option(0.8, "share of images whose colors are jittered")
    grayscale: float = option(0.2, "share of images that lose their colors")
    invert: float = option(0.0, "share of images turned into their negative")
    blur: float = option(0.0, "share of images blurred, with a width of 0.1 to 2 pixels")
    solarize: float = option(0.0, "share of images whose upper half of brightness is inverted")
    noise_std: float = option(0.0, "standard deviation of added noise, in unit pixels")

    def __post_init__(self) -> None:
        check_bounds(self)
        for name in ("flip", "jitter_probability", "grayscale", "invert", "blur", "solarize"):
            check_range(name, getattr(self, name), 0, 1)
        check_range("shift", self.shift, 0, 1)
        check_range("crop_scale_min", self.crop_scale_min, 0.01, 1)
        check_range("rotate_degrees", self.rotate_degrees, 0, 180)
        check_range("noise_std", self.noise_std, 0, 1)
        if min(self.jitter) < 0 or max(self.jitter[:3]) > 1 or self.jitter[3] > 0.5:
            raise ConfigError(
                f"jitter={self.jitter} must be brightness, contrast and saturation in [0, 1]"
                " and hue in [0, 0.5]"
            )

    @part_of_step("two views")
    def __call__(self, unit_pixels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """(view_a, view_b) of images (B, C, H, W) in [0, 1]: unit pixels of the same shape.

        They are a function of the images and the state of the CPU `generator` alone.

        Raises:
            DataError: the images are not floating point, or have other than one or three channels,
                or are too small for a blur.
        """
        self._check(unit_pixels)
        both = torch.cat([unit_pixels, unit_pixels])
        draws = Draws(generator, both)
        both = self._toned(self._colored(self._placed(both, draws), draws), draws)
        view_a, view_b = self._noised(both, generator).chunk(2)
        return view_a, view_b

    def _placed(self, x: Tensor, draws: Draws) -> Tensor:
        """Crop, flip, rotate and shift as one affine map of coordinates.

        The aspect of a crop is drawn among those that fit into the image (log-uniform between 3/4
        and 4/3), where torchvision rejects and draws the area again. What comes into the picture
        repeats its border: black corners would tell the angle.
        """
        if self.crop_scale_min == 1 and not (self.flip or self.rotate_degrees or self.shift):
            return x
        area = draws.uniform(self.crop_scale_min, 1)
        widest = torch.clamp(-area.log(), max=math.log(4 / 3))
        stretch = (draws.uniform(-0.5, 0.5) * widest).exp()  # square root of the aspect
        sides = torch.stack(
            [area.sqrt() * stretch, area.sqrt() / stretch], 1
        )  # (B, 2) width, height
        across, down = draws.uniform(-1, 1), draws.uniform(-1, 1)
        shift = torch.stack([across, down], 1) * (1 - sides)
        if self.shift:
            moved = [draws.uniform(-2 * self.shift, 2 * self.shift) for _ in range(2)]
            shift = shift + torch.stack(moved, 1)  # the image is 2 wide
        mirror = torch.where(draws.chance(self.flip), -1.0, 1.0).to(x.dtype)
        linear = (sides * torch.stack([mirror, torch.ones_like(mirror)], 1)).diag_embed()
        if self.rotate_degrees:
            linear = rotation(draws.uniform(-1, 1) * math.radians(self.rotate_degrees)) @ linear
        return resample(x, linear, shift, outside="border")

    def _colored(self, x: Tensor, draws: Draws) -> Tensor:
        """Jitter and loss of colors; a negative."""
        brightness, contrast, saturation, hue = self.jitter
        jittered = draws.chance(self.jitter_probability)

        def around(neutral: float, width: float) -> Tensor:
            return torch.where(jittered, draws.uniform(neutral - width, neutral + width), neutral)

        gains = [around(1, width) for width in (brightness, contrast, saturation)]
        turn = around(0, 2 * math.pi * hue)
        colorful = (~draws.chance(self.grayscale)).to(x.dtype)
        x = recolor(
            x,
            brightness=gains[0],
            contrast=gains[1],
            saturation=gains[2] * colorful,  # no saturation is grey, whatever the hue
            hue_radians=turn,
        ).clamp_(0, 1)
        return torch.where(per_image(draws.chance(self.invert)), 1 - x, x) if self.invert else x

    def _toned(self, x: Tensor, draws: Draws) -> Tensor:
        """Blur, then solarize (Barlow Twins' threshold: half of the brightness)."""
        if self.blur:
            blurred = blur(x, draws.uniform(0.1, _BLUR_RADIUS / 2), radius=_BLUR_RADIUS)
            x = torch.where(per_image(draws.chance(self.blur)), blurred, x)
        if self.solarize:
            solarized = torch.where(x >= 0.5, 1 - x, x)
            x = torch.where(per_image(draws.chance(self.solarize)), solarized, x)
        return x

    def _noised(self, x: Tensor, generator: Generator) -> Tensor:
        if not self.noise_std:
            return x
        noise = torch.randn(x.shape, generator=generator).to(x, non_blocking=True)
        return (x + self.noise_std * noise).clamp_(0, 1)

    def _check(self, unit_pixels: Tensor) -> None:
        check_float_images(unit_pixels, who="TwoViews")
        _, channels, height, width = unit_pixels.shape
        if channels not in (1, 3):
            raise DataError(f"TwoViews takes one or three channels, got {channels}")
        if self.blur and min(height, width) <= _BLUR_RADIUS:
            raise DataError(
                f"images of {height} x {width} pixels are too small to blur; set blur to 0"
            )
