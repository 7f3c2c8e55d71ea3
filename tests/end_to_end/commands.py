"""Words of small commands, what a command leaves behind, and a folder of one's own images."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

NETWORK = ("--network", "convnet", "--network.widths", "4,8")
TARGET = (*NETWORK, "--image-size", "16", "--steps", "3", "--batch", "16", "--outputs", "6")
TARGET += ("--objective.projector", "none")
METHOD = ("--method.outer_steps", "6", "--method.outer_batch", "16", "--method.pool_size", "2")
METHOD += ("--method.max_age", "3", "--method.crop_padding", "0")


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


def draw_photos(folder: Path, *, per_class: int = 20, mode: str = "RGB") -> Path:
    """Three classes of noise over a color of their own, in class folders."""
    rng = np.random.default_rng(0)
    for k, name in enumerate(("cat", "dog", "elk")):
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            pixels = rng.integers(0, 120, (20, 24, 3), np.uint8)
            pixels[..., k] += 120
            Image.fromarray(pixels).convert(mode).save(folder / name / f"{i}.png")
    return folder
