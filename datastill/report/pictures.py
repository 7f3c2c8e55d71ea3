"""Distilled images before and after distillation, as PNG data URIs."""

import io
from base64 import b64encode
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from datastill.artefact import picture_grid
from datastill.report.runs import Run

MOST_IMAGES = 100  # in a grid
STRIP = 10  # images in a strip


@dataclass(frozen=True)
class Picture:
    """An image of images."""

    title: str
    uri: str
    width: int  # pixels, as stored
    height: int


@dataclass(frozen=True)
class Pictures:
    """What a distillation did to its images."""

    caption: str
    grids: tuple[Picture, ...]  # before, after; either may be missing
    strip: tuple[Picture, ...]  # before, after and difference of a few images, or nothing


def pictures(run: Run) -> Pictures | None:
    """The distilled images of a run, where it has any."""
    named = {"before": run.before, "after": run.after}
    unit = {name: images.unit_pixels() for name, images in named.items() if images is not None}
    if not unit:
        return None
    whole = max(len(images) for images in unit.values())
    shown = min(whole, MOST_IMAGES)
    caption = (
        f"All {whole:,} images" if shown == whole else f"The first {shown} of {whole:,} images"
    )
    grids = tuple(_picture(name, images[:MOST_IMAGES]) for name, images in unit.items())
    return Pictures(caption, grids, _strip(unit))


def even_columns(count: int) -> int:
    """How many columns make a grid that is wide rather than tall and has few gaps."""
    start = int(count**0.5 + 0.999)
    return min(range(start, min(20, 2 * start) + 1), key=lambda c: (-count % c, c), default=start)


def magnified_change(before: Tensor, after: Tensor) -> Tensor:  # (M, C, H, W) -> (M, C, H, W)
    """after - before with no change in mid-grey and the largest change in black or white."""
    change = after - before
    return 0.5 + 0.5 * change / change.abs().max().clamp_min(1 / 255)


def _strip(unit: dict[str, Tensor]) -> tuple[Picture, ...]:
    if len(unit) < 2 or unit["before"].shape != unit["after"].shape:
        return ()
    count = len(unit["before"])
    few = torch.linspace(0, count - 1, min(STRIP, count)).round().long()
    before, after = unit["before"][few], unit["after"][few]
    rows = {"before": before, "after": after, "change": magnified_change(before, after)}
    return tuple(_picture(name, images, columns=len(few)) for name, images in rows.items())


def _picture(title: str, images: Tensor, columns: int = 0) -> Picture:
    size = images.shape[2]
    enlarge = size <= 16 or columns > 0  # a grid of larger images would make the page heavy
    scale = max(1, 64 // size) if enlarge else 1
    grid = picture_grid(images, columns=columns or even_columns(len(images)), scale=scale)
    return Picture(title, _uri(grid), grid.width, grid.height)


def _uri(image: Image.Image) -> str:
    out = io.BytesIO()
    image.save(out, format="png", optimize=True)
    return f"data:image/png;base64,{b64encode(out.getvalue()).decode()}"
