"""One picture of many images."""

import numpy as np
from PIL import Image
from torch import Tensor


def picture_grid(unit_pixels: Tensor, *, columns: int = 0, scale: int = 0) -> Image.Image:
    """Draw images as one picture with thin white gaps.

    Args:
        unit_pixels: (M, C, H, W), clipped to [0, 1]. Of three or more channels the first three are
            drawn as red, green and blue; of two, their mean as grey.
        columns: Images in a row; 0 makes the picture about square, at most 20 images wide.
        scale: Pixels of the picture for one of an image; 0 enlarges small images.

    Returns:
        The picture.
    """
    count, channels, size = unit_pixels.shape[:3]
    if channels == 2:
        unit_pixels, channels = unit_pixels.mean(1, keepdim=True), 1
    columns = columns or min(20, int(np.ceil(np.sqrt(count))))
    rows = -(-count // columns)
    scale = scale or max(1, 48 // size)
    tiles = (unit_pixels.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    tiles = tiles.repeat(scale, 1).repeat(scale, 2).repeat(3 if channels == 1 else 1, 3)
    step = size * scale + 2
    canvas = np.full((rows * step + 2, columns * step + 2, 3), 255, np.uint8)
    for k, tile in enumerate(tiles):
        top, left = 2 + k // columns * step, 2 + k % columns * step
        canvas[top : top + size * scale, left : left + size * scale] = tile[..., :3]
    return Image.fromarray(canvas)
