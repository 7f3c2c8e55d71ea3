"""CIFAR-10: 60,000 natural images of 10 classes (Krizhevsky, 2009)."""

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from datastill.data._archives import Archive, find_archive, open_archive
from datastill.data._cifar import AbstractCifar, RecordFormat, read_records
from datastill.data._lists import check_no_extra_files
from datastill.data._raw import DataLocation, RawImages

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
class Cifar10(AbstractCifar):
    """CIFAR-10 in its binary version; training images in the order of the five batches."""

    num_classes = 10
    counts = MappingProxyType({"train": 50_000, "test": 10_000})

    def _find(self, data_root: Path | None) -> DataLocation:
        return find_archive(ARCHIVE, data_root)

    def _read(self, split: str, image_size: int, location: DataLocation | None) -> RawImages:
        root = open_archive(ARCHIVE, location)
        known = [root / file for batches in BATCHES.values() for file in batches]
        check_no_extra_files(root.glob("*.bin"), known, "the batches of CIFAR-10")
        files = [root / file for file in BATCHES[split]]
        return read_records(files, root / CLASS_FILE, FORMAT, image_size)
