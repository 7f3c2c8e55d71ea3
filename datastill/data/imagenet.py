"""ImageNet-1k (ILSVRC-2012): 1,331,167 photographs of 1,000 classes (Russakovsky et al., 2015)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from datastill.data._base import AbstractImageSource
from datastill.data._cache_folder import cache_folder
from datastill.data._class_folders import FOLDERS, folder_facts, read_class_folders
from datastill.data._decode import resize_images
from datastill.data._imagenet_batches import Batch, open_batch
from datastill.data._raw import Bytes, LazyImages, Origin, RawImages, stamp
from datastill.ground.errors import DataError

FOLDER = "imagenet"
CLASSES = 1000
BATCHES = {
    "train": tuple(f"train_data_batch_{k}" for k in range(1, 11)),
    "test": ("val_data",),
}
WANTED = (
    "the extracted batches of Imagenet64_train_part1.zip, Imagenet64_train_part2.zip and"
    " Imagenet64_val.zip (train_data_batch_1 to 10 and val_data, as pickles or .npz), or the"
    " photographs as train/WNID/*.JPEG and val/WNID/*.JPEG"
)


@dataclass(frozen=True)
class ImageNet(AbstractImageSource):
    """ImageNet, at 64 pixels by default; the validation images are the test split.

    (The images of its own test have no public labels.) Where there are down-sampled batches, they
    are read, else the photographs. Batches number their classes 1 to 1,000 as the development kit
    does (label k is number k + 1); folders are numbered in the order of the sorted wnids.
    """

    num_classes: ClassVar[int | None] = CLASSES
    native_size: ClassVar[int | None] = 64
    channels: ClassVar[int] = 3
    licence: ClassVar[str] = "ImageNet terms: non-commercial research"
    citation: ClassVar[str] = (
        "O. Russakovsky et al. ImageNet Large Scale Visual Recognition Challenge. IJCV 2015."
        " Batches: P. Chrabaszcz, I. Loshchilov, F. Hutter. A Downsampled Variant of ImageNet as an"
        " Alternative to the CIFAR datasets. arXiv:1707.08819, 2017."
    )
    counts: ClassVar[Mapping[str, int]] = MappingProxyType({"train": 1_281_167, "test": 50_000})

    def _find(self, data_root: Path | None) -> Origin:
        root = cache_folder() / "downloads" if data_root is None else data_root.expanduser()
        for folder in (root / FOLDER, root):
            if files := _batch_files(folder):
                facts = {str(file.relative_to(folder)): stamp(file) for file in files}
                return Origin(folder.resolve(), facts, outlives=True)
            if all((folder / name).is_dir() for name in FOLDERS.values()):
                return Origin(folder.resolve(), folder_facts(folder), outlives=True)
        raise DataError(
            f"{root / FOLDER} does not have ImageNet; get it from https://image-net.org, which"
            f" needs an account, and put there {WANTED}; or say with --data-root where they are"
        )

    def _read(self, split: str, image_size: int, origin: Origin | None) -> RawImages:
        assert origin is not None  # only embedded sources have none
        if not origin.path.is_dir():
            raise DataError(
                f"{origin.path}, from where this was prepared, is gone; say with"
                " --data-root where ImageNet is now"
            )
        files = _batch_files(origin.path)
        if not files:
            return read_class_folders(origin.path, split, image_size)
        batches = [open_batch(file) for file in files if file.stem in BATCHES[split]]
        for batch in batches:
            if batch.side < image_size:
                raise DataError(
                    f"{batch.file} has images of {batch.side} pixels; say --image-size"
                    f" {batch.side}, or say with --data-root where larger ones are"
                )
        labels = np.concatenate([batch.labels for batch in batches])
        classes = tuple(str(number) for number in range(1, CLASSES + 1))
        return RawImages(_joined(batches, image_size), labels, classes)


def _batch_files(root: Path) -> list[Path]:
    """All eleven batches in their order, in `root` or one folder below; or none at all.

    Raises:
        DataError: some are there and others are not.
    """
    names = [name for split in BATCHES.values() for name in split]
    found = {name: _first(root, name) for name in names}
    files = [file for file in found.values() if file is not None]
    if files and len(files) < len(names):
        missing = ", ".join(name for name, file in found.items() if file is None)
        raise DataError(f"{root} lacks {missing}; extract the archives that hold them too")
    return files


def _first(root: Path, name: str) -> Path | None:
    patterns = (name, f"{name}.npz", f"*/{name}", f"*/{name}.npz")
    places = (file for pattern in patterns for file in sorted(root.glob(pattern)))
    return next((file for file in places if file.is_file()), None)


def _joined(batches: Sequence[Batch], image_size: int) -> LazyImages:
    """The images of all batches one after the other, resized."""
    firsts = np.cumsum([0, *map(len, batches)]).tolist()

    def read(start: int, stop: int) -> Bytes:
        parts = []
        for batch, first in zip(batches, firsts, strict=False):
            low, high = max(start - first, 0), min(stop - first, len(batch))
            if low < high:
                parts.append(resize_images(batch.read(low, high), image_size))
        return np.concatenate(parts)

    return LazyImages((firsts[-1], 3, image_size, image_size), read)
