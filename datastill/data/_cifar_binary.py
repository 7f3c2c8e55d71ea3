"""The binary format of CIFAR-10 and CIFAR-100: label bytes, then 3 planes of 32 x 32 bytes.

Learning Multiple Layers of Features from Tiny Images (Krizhevsky, 2009).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datastill.data._decode import resize_images
from datastill.data._raw import Bytes, RawImages
from datastill.ground.errors import DataError

SIDE = 32  # pixels
PIXELS = 3 * SIDE * SIDE


def read_records(
    files: Sequence[Path],
    class_file: Path,
    *,
    label_bytes: int,
    image_size: int,
) -> RawImages:
    """Read record files in their order; the last label byte is the class.

    Any number of records is accepted: `datastill data check` compares it with the official one.

    Raises:
        DataError: a file is missing, or is no whole number of records.
    """
    records = np.concatenate([_records(file, label_bytes + PIXELS) for file in files])
    labels = records[:, label_bytes - 1].astype(np.int64)
    images = np.ascontiguousarray(records[:, label_bytes:].reshape(-1, 3, SIDE, SIDE))
    classes = tuple(class_file.read_text("utf-8").split())
    return RawImages(resize_images(images, image_size), labels, classes)


def write_records(file: Path, images: Bytes, labels: Sequence[int], *, label_bytes: int) -> None:
    """Write images (n, 3, 32, 32) and their labels; label bytes before the last one are 0."""
    head = np.zeros((len(images), label_bytes), np.uint8)
    head[:, -1] = labels
    file.parent.mkdir(parents=True, exist_ok=True)
    np.concatenate([head, images.reshape(-1, PIXELS)], axis=1).tofile(file)


def _records(file: Path, length: int) -> Bytes:  # (n, length)
    if not file.is_file():
        raise DataError(f"{file} is missing; extract the archive again")
    content = np.fromfile(file, np.uint8)
    if content.size % length:
        raise DataError(
            f"{file} has {content.size} bytes, which is no multiple of the record length {length};"
            " extract the archive again"
        )
    return content.reshape(-1, length)
