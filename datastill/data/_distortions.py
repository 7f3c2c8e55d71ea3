"""Distortions of the embedded sources: ink on 8 x 8 cells becomes a picture.

Every image gets its own rotation, scale and shift, its own greys of stroke and ground (either may
be the darker one) and a little noise. Glyphs and digits go through the same code, so that they
differ in their shapes only.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from datastill.data._raw import Bytes

CELLS = 8  # ink maps are 8 x 8
MARGIN = 1.25  # picture side / side of the ink map, at scale 1
ROTATION_DEGREES = 15.0
SCALE = (0.8, 1.1)
SHIFT = 1.5 / 16  # of the picture's side
CONTRAST = (0.35, 0.9)  # between stroke and ground, in unit pixels
NOISE = 0.03  # standard deviation in unit pixels

Ink = NDArray[np.float32]


def picture(ink: Ink, image_size: int, rng: Generator) -> Bytes:  # (N, 8, 8) -> (N, 1, S, S)
    """Draw every ink map once; ink is 0 for ground and 1 for stroke."""
    count = len(ink)
    theta = torch.from_numpy(_placements(count, rng))
    grid = F.affine_grid(theta, [count, 1, image_size, image_size], align_corners=False)
    maps: Tensor = torch.from_numpy(ink)[:, None]
    placed = F.grid_sample(maps, grid, padding_mode="zeros", align_corners=False).numpy()
    ground, stroke = _greys(count, rng)
    unit = ground + (stroke - ground) * placed
    unit += rng.normal(0, NOISE, unit.shape).astype(np.float32)
    drawn: Bytes = (unit.clip(0, 1) * 255).round().astype(np.uint8)
    return drawn


def _placements(count: int, rng: Generator) -> Ink:  # (count, 2, 3)
    """Affine maps from the picture to the ink map, both in coordinates from -1 to 1."""
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
    ground, stroke = swapped.reshape(2, count, 1, 1, 1)
    return ground, stroke
