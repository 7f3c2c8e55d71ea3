"""Image files, to square unsigned bytes: every source opens and resizes them in this one way.

An image is turned upright (EXIF), brought to 8-bit RGB (transparent parts become white), cropped
to the largest central square and resized with Pillow's antialiased bicubic filter. An image that
already has the wanted size keeps its bytes. The paper says nothing about this step.
"""

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from datastill.core.errors import DataError
from datastill.core.progress import progress_bar
from datastill.data.cache import Bytes, LazyImages

T = TypeVar("T")
R = TypeVar("R")

SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm",
    ".jpe", ".jfif", ".apng", ".avif", ".pbm", ".pnm", ".jp2", ".jpx",
)  # fmt: skip
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "AVIF", "TIFF", "PPM", "JPEG2000")
# pixels; of such images one at a time is decoded: each may take 20 bytes a pixel
LARGE = 16_000_000
STRIP = 2.0  # long side / short side from which more than half of an image is cut off
SAMPLES_PER_PIXEL, EXTRA_SAMPLES = 277, 338  # tags of TIFF
_large_image = Lock()


class UnreadableImageError(Exception):
    """An image file is damaged, or of a kind that is not read; the message says why."""


@dataclass
class Decoded:
    """The images of a list of files, and why some could not be read."""

    images: Bytes  # (n, 3, S, S), the readable ones in the order of their files
    unreadable: dict[int, str]  # reasons by position in the list of files
    converted: Counter[str]  # how many of the n were stored in another mode than RGB, by mode
    strips: int = 0  # how many of the n lost more than half of their pixels to the crop


def is_image_name(name: str) -> bool:
    """Return whether a file name has the suffix of an image and is not hidden."""
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def open_image(file: Path | bytes) -> Image.Image:
    """Open an image; its content decides between the formats in `FORMATS` and no others.

    `file` may be the content of a file.

    Raises:
        UnreadableImageError: it is missing, too large, of another format or no regular file.
        DataError: the system cannot read it now (permission, disk or network failure).
    """
    try:
        # a FIFO or a device would block or never end
        if isinstance(file, Path) and not stat.S_ISREG(file.stat().st_mode):
            raise UnreadableImageError("it is no regular file")
        opened = BytesIO(file) if isinstance(file, bytes) else file
        image = Image.open(opened, formats=_formats())
    except UnreadableImageError:
        raise
    except Exception as error:
        raise _explained(file, error) from error
    pixels, limit = image.width * image.height, Image.MAX_IMAGE_PIXELS
    if limit is not None and pixels > limit:
        image.close()
        raise UnreadableImageError(
            f"it has {image.width} x {image.height} pixels, more than {limit:,}; make it smaller"
        )
    return image


def decode_files(
    files: Sequence[Path | bytes], image_size: int, phase: str | None = None
) -> Decoded:
    """Decode many files, or their contents, on all cores; those that are no images are set apart.

    Args:
        files: Paths or contents of the files.
        image_size: Pixels on a side.
        phase: Title of a progress bar; None where the caller shows one.

    Raises:
        DataError: The system cannot read a file now (permission, disk or network failure).
    """
    results = _in_threads(lambda file: _try_decode(file, image_size), files)
    images = np.empty((len(files), 3, image_size, image_size), np.uint8)
    decoded = Decoded(images, {}, Counter())
    with progress_bar(phase, 0, len(files), "images") if phase else nullcontext() as bar:
        for position, result in enumerate(results):
            if bar is not None and bar.due():
                bar.update(position, {})
            if isinstance(result, str):
                decoded.unreadable[position] = result
                continue
            image, mode, is_strip = result
            images[position - len(decoded.unreadable)] = image
            decoded.strips += is_strip
            if mode != "RGB":
                decoded.converted[mode] += 1
    decoded.images = images[: len(files) - len(decoded.unreadable)]
    return decoded


def decode_all(files: Sequence[Path | str], image_size: int, *, root: Path = Path()) -> LazyImages:
    """Return the images of an official archive, (N, 3, S, S), all of which must be readable.

    Names in `files` may be relative to `root`: a million strings take less memory than paths.

    Raises:
        DataError: when read: a file is missing or is no image.
    """

    def read(start: int, stop: int) -> Bytes:
        part = [root / file for file in files[start:stop]]
        decoded = decode_files(part, image_size)
        for position, reason in decoded.unreadable.items():
            raise DataError(
                f"{len(decoded.unreadable)} of {stop - start} images that were read together are"
                f" missing or damaged, the first is {part[position]}; extract the archive again"
                f" ({reason})"
            )
        return decoded.images

    return LazyImages((len(files), 3, image_size, image_size), read)


def resize_images(images: Bytes, image_size: int) -> Bytes:  # (N, 3, H, W) -> (N, 3, S, S)
    """Resize images that are in memory exactly as files are."""
    if images.shape[2:] == (image_size, image_size):
        return images
    pictures = (Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))) for image in images)
    resized = _in_threads(lambda picture: _square(picture, image_size), pictures)
    return np.stack(list(resized))


def square_pixels(image: Image.Image, image_size: int) -> Bytes:  # -> (3, S, S)
    """Turn an opened image upright, to RGB, to its central square and to a size, as files are."""
    try:
        return _square(_rgb(ImageOps.exif_transpose(image)), image_size)
    except UnreadableImageError as error:
        raise DataError(f"the image cannot be converted to RGB: {error}") from error


def _in_threads(work: Callable[[T], R], items: Iterable[T]) -> Iterable[R]:
    # Pillow decodes and resizes without holding the interpreter lock
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    pool = ThreadPoolExecutor(cores)
    try:
        yield from pool.map(work, items)
    finally:  # after Ctrl-C too: what has not begun is dropped
        pool.shutdown(cancel_futures=True)


def _try_decode(file: Path | bytes, image_size: int) -> tuple[Bytes, str, bool] | str:
    """Return square image, mode of the file and whether it is a strip; or why it is unreadable."""
    try:
        with open_image(file) as image:
            _refuse_what_would_be_lost(image)
            with _large_image if image.width * image.height > LARGE else nullcontext():
                try:
                    square = _square(_rgb(ImageOps.exif_transpose(image)), image_size)
                except Exception as error:
                    raise _explained(file, error) from error
            return square, image.mode, max(image.size) > STRIP * min(image.size)
    except UnreadableImageError as error:
        return str(error)


def _explained(file: Path | bytes, error: Exception) -> Exception:
    """Tell a damaged image from a failure of the system, which may pass and must not be cached."""
    if isinstance(error, FileNotFoundError):
        return UnreadableImageError("it is missing or a link to nowhere")
    if isinstance(error, OSError) and error.errno is not None and isinstance(file, Path):
        return DataError(f"{file} cannot be read: {error.strerror or error}")
    if isinstance(error, MemoryError | DataError | UnreadableImageError):
        return error
    if isinstance(error, UnidentifiedImageError):
        return UnreadableImageError("it is damaged, or of a format that is not read")
    # Pillow's readers answer damaged bytes with errors of many kinds
    reason = str(error).partition("\n")[0] or type(error).__name__
    return UnreadableImageError(reason)


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _refuse_what_would_be_lost(image: Image.Image) -> None:
    """Refuse values, bands and pages that 8-bit RGB could hold only by guessing."""
    if image.mode in ("I", "F") and image.format != "PNG":
        raise UnreadableImageError(
            f"its values are of mode {image.mode}, whose range is unknown; save it with 8 bits"
        )
    if image.format != "TIFF":
        return
    if (pages := getattr(image, "n_frames", 1)) > 1:
        raise UnreadableImageError(f"it has {pages} pages; save each as a file of its own")
    tags = getattr(image, "tag_v2", {})
    bands, extra = tags.get(SAMPLES_PER_PIXEL, 1), tags.get(EXTRA_SAMPLES)
    if bands > len(image.getbands()) or (image.mode == "RGBA" and not extra):
        raise UnreadableImageError(f"it has {bands} bands; save the three that are wanted as RGB")


def _rgb(image: Image.Image) -> Image.Image:
    # Pillow would clip sixteen bits, not scale them; older releases open such PNG files in mode I
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image)
        if 0 < values.max() < 4096:
            raise UnreadableImageError(
                f"its 16-bit values end at {values.max()}: scale them to 65535, or save it with"
                " 8 bits"
            )
        image = Image.fromarray((values >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    ground = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(ground, image).convert("RGB")


def _square(image: Image.Image, image_size: int) -> Bytes:  # -> (3, S, S)
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)
    square = image.resize((image_size, image_size), Image.Resampling.BICUBIC, box=box)
    return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))
