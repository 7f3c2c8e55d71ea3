"""The binary format of CIFAR-10 and CIFAR-100: label bytes, then 3 planes of 32 x 32 bytes.

Learning Multiple Layers of Features from Tiny Images (Krizhevsky, 2009).
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from datastill.core.errors import DataError
from datastill.data.archives import ArchiveSource
from datastill.data.cache import Bytes, RawImages
from datastill.data.decode import resize_images
from datastill.data.lists import HINT, check_no_extra_files, class_labels, read_lines

SIDE = 32  # pixels


class Cifar(ArchiveSource):
    """Base of both data sets in their binary version: files of records, read in their order.

    Another number of records than the official one is accepted, with a warning;
    `datastill data check` compares the counts.
    """

    native_size = SIDE
    licence = "no formal licence; cite the report"
    citation = (
        "A. Krizhevsky. Learning Multiple Layers of Features from Tiny Images. Tech. report, 2009."
    )
    counts = MappingProxyType({"train": 50_000, "test": 10_000})
    files: ClassVar[Mapping[str, tuple[str, ...]]]  # of every split
    class_file: ClassVar[str]  # K names
    label_bytes: ClassVar[int]  # the last of them is the class

    def _read_archives(self, split: str, image_size: int, *roots: Path) -> RawImages:
        (root,) = roots
        expected = [root / file for files in self.files.values() for file in files]
        check_no_extra_files(root.glob("*.bin"), expected, f"the files of {self.name}")
        classes = read_lines(root / self.class_file)
        if len(classes) != self.num_classes:
            raise DataError(
                f"{root / self.class_file} has {len(classes)} class names, not {self.num_classes};"
                f" {HINT}"
            )
        parts = {file: self._records(root / file) for file in self.files[split]}
        labels = [
            class_labels(records[:, self.label_bytes - 1], len(classes), root / file, first=0)
            for file, records in parts.items()
        ]
        pixels = np.concatenate([records[:, self.label_bytes :] for records in parts.values()])
        images = resize_images(pixels.reshape(-1, 3, SIDE, SIDE), image_size)
        return RawImages(images, np.concatenate(labels), tuple(classes))

    def _records(self, file: Path) -> Bytes:  # (n, label bytes + pixels)
        if not file.is_file():
            raise DataError(f"{file} is missing; {HINT}")
        size, length = file.stat().st_size, self.label_bytes + 3 * SIDE * SIDE
        if not size or size % length:
            raise DataError(
                f"{file} has {size} bytes, which is no multiple of the record length {length};"
                f" {HINT}"
            )
        return np.fromfile(file, np.uint8).reshape(-1, length)
