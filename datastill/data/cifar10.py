"""CIFAR-10: 60,000 natural images of 10 classes (Krizhevsky, 2009)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from datastill.data._archives import Archive, find_archive, open_archive
from datastill.data._base import AbstractImageSource
from datastill.data._cifar_binary import RecordFormat, read_records
from datastill.data._lists import refuse_strangers
from datastill.data._raw import Origin, RawImages

BATCHES = {
    "train": tuple(f"data_batch_{k}.bin" for k in range(1, 6)),
    "test": ("test_batch.bin",),
}
CLASS_FILE = "batches.meta.txt"
FORMAT = RecordFormat(label_bytes=1, classes=10, most=10_000)
ARCHIVE = Archive(
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    folder="cifar-10-batches-bin",
    files=(*BATCHES["train"], *BATCHES["test"], CLASS_FILE),
)


@dataclass(frozen=True)
class Cifar10(AbstractImageSource):
    """CIFAR-10 in its binary version; training images in the order of the five batches."""

    num_classes: ClassVar[int | None] = 10
    native_size: ClassVar[int | None] = 32
    channels: ClassVar[int] = 3
    licence: ClassVar[str] = "no formal licence; cite the report"
    citation: ClassVar[str] = (
        "A. Krizhevsky. Learning Multiple Layers of Features from Tiny Images."
        " Technical report, University of Toronto, 2009."
    )
    counts: ClassVar[Mapping[str, int]] = MappingProxyType({"train": 50_000, "test": 10_000})

    def _find(self, data_root: Path | None) -> Origin:
        return find_archive(ARCHIVE, data_root)

    def _read(self, split: str, image_size: int, origin: Origin | None) -> RawImages:
        root = open_archive(ARCHIVE, origin)
        known = [root / file for batches in BATCHES.values() for file in batches]
        refuse_strangers(root.glob("*.bin"), known, "the batches of CIFAR-10")
        files = [root / file for file in BATCHES[split]]
        return read_records(files, root / CLASS_FILE, FORMAT, image_size)
