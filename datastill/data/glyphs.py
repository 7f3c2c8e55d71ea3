"""Embedded, unlabelled source: letters and symbols, but no digits, of the fonts of matplotlib.

Glyphs are brought to 8 x 8 cells as the handwritten digits of scikit-learn were (a 32 x 32 bitmap
as high as the glyph, counted in blocks of 4 x 4) and get the same distortions. No file, no network.
"""

import string
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from datastill.core.rng import derive
from datastill.data._distortions import CELLS, Ink, picture
from datastill.data._raw import DataLocation, RawImages
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


@dataclass(frozen=True)
class Glyphs(ImageSource):
    """708 glyphs (59 characters, 12 fonts), 12 pictures of each; one glyph in eight is for testing.

    The test split has no labels either: it is there to see whether representations carry over.
    """

    num_classes = None
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

    def _find(self, data_root: Path | None) -> DataLocation | None:
        return None

    def _read(self, split: str, image_size: int, location: DataLocation | None) -> RawImages:
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
    place = ((BITMAP - width) // 2, (BITMAP - height) // 2)
    bitmap.paste(glyph.resize((width, height), Image.Resampling.BOX), place)
    block = BITMAP // CELLS
    cells = (np.asarray(bitmap) > 127).reshape(CELLS, block, CELLS, block)
    ink: Ink = cells.mean((1, 3), dtype=np.float32)
    return ink
