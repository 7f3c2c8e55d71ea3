"""Embedded, unlabelled source: letters and symbols, but no digits, of the fonts of matplotlib.

Glyphs are brought to 8 x 8 cells as the handwritten digits of scikit-learn were (a 32 x 32 bitmap
as high as the glyph, counted in blocks of 4 x 4) and get the same distortions: every picture has
its own rotation, scale and shift, its own greys of stroke and background (either may be the
darker one) and a little noise. So glyphs and digits differ in their shapes only. Nothing is
downloaded.
"""

import string
from pathlib import Path
from types import MappingProxyType

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from datastill.core.rng import derive
from datastill.data.cache import Bytes, DataLocation, RawImages
from datastill.data.source import ImageSource

CHARACTERS = string.ascii_letters + "&@#%?$+"
FONTS = tuple(
    f"DejaVu{family}.ttf"
    for family in (
        *("Sans", "Sans-Bold", "Sans-Oblique", "Sans-BoldOblique"),
        *("SansMono", "SansMono-Bold", "SansMono-Oblique", "SansMono-BoldOblique"),
        *("Serif", "Serif-Bold", "Serif-Italic", "Serif-BoldItalic"),
    )
)
RENDERINGS = 12  # of every glyph
HELD_OUT = len(CHARACTERS) * len(FONTS) // 8  # glyphs of the test split
BITMAP = 32  # pixels on a side, before counting
SEED = 0
CELLS = 8  # ink maps are 8 x 8
MARGIN = 1.25  # picture side / side of the ink map, at scale 1
ROTATION_DEGREES = 15.0
SCALE = (0.8, 1.1)
SHIFT = 1.5 / 16  # of the picture's side
CONTRAST = (0.35, 0.9)  # between stroke and background, in unit pixels
NOISE = 0.03  # standard deviation in unit pixels

Ink = NDArray[np.float32]


class Glyphs(ImageSource):
    """708 glyphs (59 characters, 12 fonts), 12 pictures of each; one glyph in eight is for testing.

    The test split has no labels either: it shows how representations generalize to unseen glyphs.
    """

    native_size = 16
    channels = 1
    licence = "drawn from the DejaVu fonts, which are free (Bitstream Vera licence)"
    citation = "DejaVu fonts, https://dejavu-fonts.github.io"
    labelled = False
    counts = MappingProxyType(
        {
            "train": (len(CHARACTERS) * len(FONTS) - HELD_OUT) * RENDERINGS,
            "test": HELD_OUT * RENDERINGS,
        }
    )

    def _read(self, split: str, image_size: int, location: DataLocation) -> RawImages:
        ink = _all_ink()
        order = np.random.default_rng(derive(SEED, "glyphs", "held-out")).permutation(len(ink))
        chosen = order[:HELD_OUT] if split == "test" else order[HELD_OUT:]
        rng = np.random.default_rng(derive(SEED, "glyphs", split))
        return RawImages(picture(ink[chosen].repeat(RENDERINGS, axis=0), image_size, rng))


def _all_ink() -> Ink:  # (708, 8, 8) in [0, 1]
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    fonts = [ImageFont.truetype(str(folder / font), 2 * BITMAP) for font in FONTS]
    return np.stack([_ink(font, character) for font in fonts for character in CHARACTERS])


def _ink(font: ImageFont.FreeTypeFont, character: str) -> Ink:  # (8, 8)
    left, top, right, bottom = (int(edge) for edge in font.getbbox(character))
    glyph = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(glyph).text((-left, -top), character, fill=255, font=font)
    scale = BITMAP / max(glyph.size)
    width, height = (max(1, round(side * scale)) for side in glyph.size)
    bitmap = Image.new("L", (BITMAP, BITMAP))
    corner = ((BITMAP - width) // 2, (BITMAP - height) // 2)
    bitmap.paste(glyph.resize((width, height), Image.Resampling.BOX), corner)
    block = BITMAP // CELLS
    cells = (np.asarray(bitmap) > 127).reshape(CELLS, block, CELLS, block)
    ink: Ink = cells.mean((1, 3), dtype=np.float32)
    return ink


def picture(ink: Ink, image_size: int, rng: Generator) -> Bytes:  # (N, 8, 8) -> (N, 1, S, S)
    """Draw one picture of every ink map; ink is 0 for background and 1 for stroke."""
    count = len(ink)
    theta = torch.from_numpy(_placements(count, rng))
    grid = F.affine_grid(theta, [count, 1, image_size, image_size], align_corners=False)
    maps: Tensor = torch.from_numpy(ink)[:, None]
    placed = F.grid_sample(maps, grid, padding_mode="zeros", align_corners=False).numpy()
    background, stroke = _greys(count, rng)
    unit = background + (stroke - background) * placed
    unit += rng.normal(0, NOISE, unit.shape).astype(np.float32)
    drawn: Bytes = (unit.clip(0, 1) * 255).round().astype(np.uint8)
    return drawn


def _placements(count: int, rng: Generator) -> Ink:  # (count, 2, 3)
    """Draw affine maps from the picture to the ink map, both in coordinates from -1 to 1."""
    angle = np.deg2rad(rng.uniform(-ROTATION_DEGREES, ROTATION_DEGREES, count))
    zoom = MARGIN / rng.uniform(*SCALE, count)
    shift = rng.uniform(-2 * SHIFT, 2 * SHIFT, (2, count))
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    rows = [[cos, -sin, -cos * shift[0] + sin * shift[1]]]
    rows += [[sin, cos, -sin * shift[0] - cos * shift[1]]]
    return np.array(rows, np.float32).transpose(2, 0, 1)


def _greys(count: int, rng: Generator) -> tuple[Ink, Ink]:  # (count, 1, 1, 1) each
    contrast = rng.uniform(*CONTRAST, count)
    darker = rng.uniform(0, 1 - contrast)
    greys = np.stack([darker, darker + contrast]).astype(np.float32)
    swapped = np.where(rng.random(count) < 0.5, greys, greys[::-1])
    background, stroke = swapped.reshape(2, count, 1, 1, 1)
    return background, stroke
