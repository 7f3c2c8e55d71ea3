"""Tiny ImageNet: 110,000 images of 64 x 64 pixels and 200 classes (Le and Yang, 2015)."""

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from datastill.core.errors import DataError
from datastill.data._archives import Archive, find_archive, open_archive
from datastill.data._lists import check_no_extra_files, class_labels, read_lines, read_pairs
from datastill.data._raw import DataLocation, RawImages
from datastill.data.decode import decode_all
from datastill.data.source import ImageSource

ANNOTATIONS = "val/val_annotations.txt"
ARCHIVE = Archive(
    url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    md5="90528d7ca1a48142e341f4ef8d21d0de",
    folder="tiny-imagenet-200",
    files=("wnids.txt", "words.txt", "train", "val/images", ANNOTATIONS),
)


@dataclass(frozen=True)
class TinyImageNet(ImageSource):
    """Tiny ImageNet; its validation images are the test split, its own test has no labels.

    Label k is the k-th wnid in sorted order. Any number of images of a class will do.
    """

    num_classes = 200
    native_size = 64
    channels = 3
    licence = "ImageNet terms: non-commercial research"
    citation = "Y. Le, X. Yang. Tiny ImageNet Visual Recognition Challenge. 2015."
    counts = MappingProxyType({"train": 100_000, "test": 10_000})

    def _find(self, data_root: Path | None) -> DataLocation:
        return find_archive(ARCHIVE, data_root)

    def _read(self, split: str, image_size: int, location: DataLocation | None) -> RawImages:
        root = open_archive(ARCHIVE, location)
        wnids = sorted(read_lines(root / "wnids.txt"))
        label = {wnid: k for k, wnid in enumerate(wnids)}
        rows = _train_rows(root) if split == "train" else _val_rows(root)
        if foreign := sorted({wnid for _, wnid in rows} - set(wnids)):
            raise DataError(
                f"{root}: {', '.join(foreign[:5])} of {split} are not in wnids.txt;"
                " extract the archive again"
            )
        labels = class_labels((label[wnid] for _, wnid in rows), len(wnids), root, first=0)
        images = decode_all([file for file, _ in rows], image_size)
        return RawImages(images, labels, _class_names(root, wnids))


def _train_rows(root: Path) -> list[tuple[Path, str]]:
    return [(file, file.parts[-3]) for file in sorted((root / "train").glob("*/images/*.JPEG"))]


def _val_rows(root: Path) -> list[tuple[Path, str]]:
    images, pairs = root / "val" / "images", read_pairs(root / ANNOTATIONS, "\t")
    rows = [(images / file, rest.partition("\t")[0]) for file, rest in pairs]
    check_no_extra_files(
        images.glob("*.JPEG"), (file for file, _ in rows), f"those of {ANNOTATIONS}"
    )
    return rows


def _class_names(root: Path, wnids: list[str]) -> tuple[str, ...]:
    rows = (line.partition("\t") for line in read_lines(root / "words.txt"))
    names = {wnid: words.split(",")[0] for wnid, _, words in rows}
    return tuple(names.get(wnid, wnid) for wnid in wnids)
