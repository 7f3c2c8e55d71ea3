"""CIFAR-100: 60,000 natural images of 100 classes (Krizhevsky, 2009)."""

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from datastill.data._archives import Archive, find_archive, open_archive
from datastill.data._cifar import AbstractCifar, RecordFormat, read_records
from datastill.data._lists import check_no_extra_files
from datastill.data._raw import DataLocation, RawImages

CLASS_FILE = "fine_label_names.txt"
FORMAT = RecordFormat(label_bytes=2, classes=100, most=50_000)  # a coarse label, then a fine one
ARCHIVE = Archive(
    url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    folder="cifar-100-binary",
    files=("train.bin", "test.bin", CLASS_FILE),
)


@dataclass(frozen=True)
class Cifar100(AbstractCifar):
    """CIFAR-100 in its binary version, with the 100 fine labels."""

    num_classes = 100
    counts = MappingProxyType({"train": 50_000, "test": 10_000})

    def _find(self, data_root: Path | None) -> DataLocation:
        return find_archive(ARCHIVE, data_root)

    def _read(self, split: str, image_size: int, location: DataLocation | None) -> RawImages:
        root = open_archive(ARCHIVE, location)
        known = [root / "train.bin", root / "test.bin"]
        check_no_extra_files(root.glob("*.bin"), known, "the files of CIFAR-100")
        return read_records([root / f"{split}.bin"], root / CLASS_FILE, FORMAT, image_size)
