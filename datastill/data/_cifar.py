"""The binary format of CIFAR-10 and CIFAR-100: label bytes, then 3 planes of 32 x 32 bytes.

Learning Multiple Layers of Features from Tiny Images (Krizhevsky, 2009).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datastill.data._base import AbstractImageSource
from datastill.data._decode import resize_images
from datastill.data._lists import AGAIN, class_labels, read_lines
from datastill.data._raw import Bytes, RawImages
from datastill.ground.errors import DataError

SIDE = 32  # pixels
PIXELS = 3 * SIDE * SIDE


@dataclass(frozen=True)
class AbstractCifar(AbstractImageSource):
    """The metadata that both data sets share."""

    native_size = SIDE
    channels = 3
    licence = "no formal licence; cite the report"
    citation = (
        "A. Krizhevsky. Learning Multiple Layers of Features from Tiny Images."
        " Technical report, University of Toronto, 2009."
    )


@dataclass(frozen=True)
class RecordFormat:
    """What distinguishes the two data sets."""

    label_bytes: int  # the last of them is the class
    classes: int  # K names in the class file
    most: int  # records of the longest official file


def read_records(
    files: Sequence[Path], class_file: Path, official: RecordFormat, image_size: int
) -> RawImages:
    """Read record files in their order.

    Fewer records than the official ones are accepted: `datastill data check` compares the counts.

    Raises:
        DataError: a file is missing, is no whole number of records or has too many, a label is
            that of no class, or the class file has other than K names.
    """
    classes = read_lines(class_file)
    if len(classes) != official.classes:
        raise DataError(
            f"{class_file} has {len(classes)} class names, not {official.classes}; {AGAIN}"
        )
    parts = [_records(file, official) for file in files]
    labels = [
        class_labels(records[:, official.label_bytes - 1], len(classes), file, first=0)
        for file, records in zip(files, parts, strict=True)
    ]
    pixels = np.concatenate([records[:, official.label_bytes :] for records in parts])
    images = resize_images(pixels.reshape(-1, 3, SIDE, SIDE), image_size)
    return RawImages(images, np.concatenate(labels), tuple(classes))


def _records(file: Path, official: RecordFormat) -> Bytes:  # (n, label bytes + pixels)
    if not file.is_file():
        raise DataError(f"{file} is missing; {AGAIN}")
    size, length = file.stat().st_size, official.label_bytes + PIXELS
    if not size or size % length:
        raise DataError(
            f"{file} has {size} bytes, which is no multiple of the record length {length}; {AGAIN}"
        )
    if size > official.most * length:
        raise DataError(
            f"{file} has {size // length} records, the official one has at most"
            f" {official.most}; {AGAIN}"
        )
    return np.fromfile(file, np.uint8).reshape(-1, length)
