"""CIFAR-100: 60,000 natural images of 100 classes (Krizhevsky, 2009)."""

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

CLASS_FILE = "fine_label_names.txt"
FORMAT = RecordFormat(label_bytes=2, classes=100, most=50_000)  # a coarse label, then a fine one
ARCHIVE = Archive(
    url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    folder="cifar-100-binary",
    files=("train.bin", "test.bin", CLASS_FILE),
)


@dataclass(frozen=True)
class Cifar100(AbstractImageSource):
    """CIFAR-100 in its binary version, with the 100 fine labels."""

    num_classes: ClassVar[int | None] = 100
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
        known = [root / "train.bin", root / "test.bin"]
        refuse_strangers(root.glob("*.bin"), known, "the files of CIFAR-100")
        return read_records([root / f"{split}.bin"], root / CLASS_FILE, FORMAT, image_size)
