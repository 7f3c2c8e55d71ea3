"""Tiny ImageNet: 110,000 images of 64 x 64 pixels and 200 classes (Le and Yang, 2015)."""

from pathlib import Path
from types import MappingProxyType

from datastill.core.errors import DataError
from datastill.data.archives import Archive, ArchiveSource
from datastill.data.cache import RawImages
from datastill.data.lists import HINT, check_no_extra_files, listed_images, read_lines, read_pairs

ANNOTATIONS = "val/val_annotations.txt"


class TinyImageNet(ArchiveSource):
    """Tiny ImageNet; its validation images are the test split, its own test has no labels.

    Label k is the k-th wnid in sorted order. Any number of images of a class will do.
    """

    num_classes = 200
    native_size = 64
    licence = "ImageNet terms: non-commercial research"
    citation = "Y. Le, X. Yang. Tiny ImageNet Visual Recognition Challenge. 2015."
    counts = MappingProxyType({"train": 100_000, "test": 10_000})

    archives = (
        Archive(
            url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
            md5="90528d7ca1a48142e341f4ef8d21d0de",
            folder="tiny-imagenet-200",
            files=("wnids.txt", "words.txt", "train", "val", ANNOTATIONS),
        ),
    )

    def _read_archives(self, split: str, image_size: int, *roots: Path) -> RawImages:
        (root,) = roots
        wnids = sorted(read_lines(root / "wnids.txt"))
        order = {wnid: k for k, wnid in enumerate(wnids)}
        if split == "train":
            files = sorted((root / "train").glob("*/images/*.JPEG"))
            rows = [(file, file.parts[-3]) for file in files]
        else:
            # in val/images, or sorted into class folders by the user
            images = {file.name: file for file in (root / "val").rglob("*.JPEG")}
            pairs = read_pairs(root / ANNOTATIONS, "\t")
            files = [images.get(name, root / "val" / "images" / name) for name, _ in pairs]
            rows = [(f, rest.partition("\t")[0]) for f, (_, rest) in zip(files, pairs, strict=True)]
            check_no_extra_files(images.values(), files, f"those of {ANNOTATIONS}")
        if unknown := sorted({wnid for _, wnid in rows} - set(wnids)):
            raise DataError(
                f"{root}: {', '.join(unknown[:5])} of {split} are not in wnids.txt; {HINT}"
            )
        lines = (line.partition("\t") for line in read_lines(root / "words.txt"))
        names = {wnid: text.split(",")[0] for wnid, _, text in lines}
        classes, numbers = [names.get(wnid, wnid) for wnid in wnids], [order[w] for _, w in rows]
        return listed_images(files, numbers, classes, root, image_size, first=0)
