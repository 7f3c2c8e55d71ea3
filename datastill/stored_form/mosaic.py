"""Many small images in one picture file: a mosaic, by a standard codec of Pillow."""

import hashlib
import io
import math
import struct
from typing import Any, Literal, get_args

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image, features
from torch import Tensor

from datastill.core.errors import ArtefactError, ConfigError

Codec = Literal["avif", "webp", "jpeg", "png", "raw"]
Bytes = NDArray[np.uint8]

QUALITIES = {"avif": (0, 100), "webp": (0, 100), "jpeg": (1, 95)}  # worst and best
SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    # The bytes depend on the number of threads. At one PSNR, small images with colours at full
    # resolution take fewer bytes: 6 % of AVIF, 10 % of JPEG.
    "avif": {"max_threads": 1, "subsampling": "4:4:4"},
    "webp": {"method": 6},
    "jpeg": {"optimize": True, "progressive": True, "subsampling": "4:4:4"},
    "png": {"optimize": True},
}
LIBRARIES = {"avif": "avif", "webp": "webp", "jpeg": "libjpeg_turbo", "png": "zlib"}  # of Pillow
SHRINK, ENLARGE = Image.Resampling.LANCZOS, Image.Resampling.BICUBIC
LARGEST = 80_000_000  # pixels; Pillow warns of more than 89 million
DAMAGED = (OSError, RuntimeError, SyntaxError, ValueError, EOFError, IndexError, struct.error)


def check_mosaic(
    codec: Any,
    count: int,
    channels: int,
    stored_size: Any,
    image_size: int,
    *,
    error: type[ArtefactError] | type[ConfigError] = ArtefactError,
) -> None:
    """Check that images can be stored by a codec and enlarged, before any is coded or decoded.

    Raises:
        ArtefactError: There is no such codec here, or the sizes do not fit; or the other `error`.
    """
    Image.init()
    if codec not in get_args(Codec):
        raise error(f"there is no codec {codec!r}; there are {', '.join(get_args(Codec))}")
    if codec != "raw" and codec.upper() not in Image.SAVE:
        raise error(f"Pillow {PIL.__version__} lacks {codec}; update Pillow")
    if codec != "raw" and channels not in (1, 3):
        raise error(f"{codec} stores one or three channels, not {channels}; use the codec raw")
    if not isinstance(stored_size, int) or not 1 <= stored_size <= image_size:
        raise error(f"the images have the stored size {stored_size!r}, expected 1 to {image_size}")
    if count * image_size**2 > LARGEST:
        raise error(
            f"{count:,} images of {image_size} x {image_size} are more than the {LARGEST:,} pixels"
            " that a mosaic may have"
        )


def encode_mosaic(tiles: Bytes, codec: Codec, quality: int | None) -> Tensor:
    """Encode images uint8 (M, C, S, S) at a quality: a picture file as uint8 (bytes,).

    Raw pixels stay as they are, (M, C, S, S).
    """
    if codec == "raw":
        return torch.from_numpy(tiles)
    count, channels, size = tiles.shape[:3]
    columns, rows = _grid(count)
    padded = np.zeros((rows * columns, *tiles.shape[1:]), np.uint8)
    padded[:count] = tiles
    grid = padded.reshape(rows, columns, channels, size, size).transpose(0, 3, 1, 4, 2)
    canvas = grid.reshape(rows * size, columns * size, channels)
    picture, file = Image.fromarray(canvas[..., 0] if channels == 1 else canvas), io.BytesIO()
    chosen = {} if quality is None else {"quality": quality}
    picture.save(file, format=codec.upper(), **SAVE_OPTIONS[codec], **chosen)
    return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)


def decode_mosaic(mosaic: Tensor, codec: Codec, count: int, channels: int, size: int) -> Bytes:
    """Decode a mosaic of M checked images (`check_mosaic`) into uint8 (M, C, S, S).

    Raises:
        ArtefactError: It is damaged, or of another size; then it is not decoded.
    """
    if codec == "raw":
        if mosaic.shape != (count, channels, size, size) or mosaic.dtype != torch.uint8:
            expected = (count, channels, size, size)
            raise ArtefactError(f"the mosaic has shape {tuple(mosaic.shape)}, not {expected}")
        return mosaic.numpy()
    columns, rows = _grid(count)
    try:
        picture = Image.open(io.BytesIO(mosaic.numpy().tobytes()), formats=[codec.upper()])
        if picture.size != (columns * size, rows * size) or picture.mode not in ("L", "RGB"):
            raise ArtefactError(
                f"the mosaic is {picture.mode} of {picture.width} x {picture.height} pixels,"
                f" expected {columns * size} x {rows * size} for {count} images"
            )
        canvas = np.array(picture.convert("L" if channels == 1 else "RGB"))
    except (*DAMAGED, Image.DecompressionBombError) as error:
        raise ArtefactError(f"the mosaic is damaged ({error}); fetch the file again") from error
    grid = canvas.reshape(rows, size, columns, size, channels).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(grid.reshape(-1, channels, size, size)[:count])


def resize(tiles: Bytes, size: int, resampling: Image.Resampling) -> Bytes:
    """Resize images (M, C, S, S), each channel as a grey picture."""
    if tiles.shape[2] == size:
        return tiles
    planes = (Image.fromarray(plane) for plane in tiles.reshape(-1, *tiles.shape[2:]))
    resized = np.stack([np.asarray(plane.resize((size, size), resampling)) for plane in planes])
    return resized.reshape(*tiles.shape[:2], size, size)


def checksum(tiles: Bytes) -> str:
    """Return the first 16 digits of the SHA-256 of pixels."""
    return hashlib.sha256(np.ascontiguousarray(tiles).tobytes()).hexdigest()[:16]


def decoder(codec: str) -> str:
    """Name the versions of Pillow and of its library for a codec."""
    library = f", {codec} {features.version(LIBRARIES[codec])}" if codec in LIBRARIES else ""
    return f"Pillow {PIL.__version__}{library}"


def _grid(count: int) -> tuple[int, int]:
    """Return columns and rows."""
    columns = max(1, math.ceil(math.sqrt(count)))
    return columns, -(-count // columns)
