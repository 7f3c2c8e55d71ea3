"""ImageNet-1k (ILSVRC-2012): 1,331,167 photographs of 1,000 classes (Russakovsky et al., 2015)."""

from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from datastill.core.errors import DataError
from datastill.core.options import Json
from datastill.data._imagenet_batches import Batch, open_batch
from datastill.data.cache import (
    Bytes,
    DataLocation,
    LazyImages,
    RawImages,
    cache_folder,
    file_signature,
)
from datastill.data.decode import decode_all, is_image_name, resize_images
from datastill.data.source import ImageSource

FOLDER = "imagenet"
SPLIT_FOLDERS = {"train": "train", "test": "val"}  # the validation images are the test split
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


class ImageNet(ImageSource):
    """ImageNet, at 64 pixels by default; the validation images are the test split.

    (The images of its own test have no public labels.) Where there are down-sampled batches, they
    are read, else the photographs. Batches number their classes 1 to 1,000 as the development kit
    does (label k is number k + 1); folders are numbered in the order of the sorted wnids.
    """

    num_classes = CLASSES
    native_size = 64
    licence = "ImageNet terms: non-commercial research"
    citation = (
        "O. Russakovsky et al. ImageNet Large Scale Visual Recognition Challenge. IJCV 2015."
        " Batches: P. Chrabaszcz, I. Loshchilov, F. Hutter. A Downsampled Variant of ImageNet as an"
        " Alternative to the CIFAR datasets. arXiv:1707.08819, 2017."
    )
    counts = MappingProxyType({"train": 1_281_167, "test": 50_000})

    def _find(self, data_root: Path | None) -> DataLocation:
        root = cache_folder() / "downloads" if data_root is None else data_root.expanduser()
        for folder in (root / FOLDER, root):
            files = _batch_files(folder)
            signatures = {str(file.relative_to(folder)): file_signature(file) for file in files}
            if signatures := signatures or _folder_signatures(folder):
                return DataLocation(folder.resolve(), signatures, valid_without_source=True)
        raise DataError(
            f"{root / FOLDER} does not have ImageNet; get it from https://image-net.org, which"
            f" needs an account, and put there {WANTED}; or say with --data-root where they are"
        )

    def _read(self, split: str, image_size: int, location: DataLocation) -> RawImages:
        if not location.path.is_dir():
            raise DataError(
                f"{location.path}, from where this was prepared, is gone; say with"
                " --data-root where ImageNet is now"
            )
        files = _batch_files(location.path)
        if not files:
            return read_class_folders(location.path, split, image_size)
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


def read_class_folders(root: Path, split: str, image_size: int) -> RawImages:
    """Return the images of one split, read when they are needed, in the order of their names.

    Raises:
        DataError: There are images outside of class folders, or classes that train lacks.
    """
    wnids, folder = _class_names(root / "train"), root / SPLIT_FOLDERS[split]
    if unknown := sorted(set(_class_names(folder)) - set(wnids)):
        raise DataError(f"{folder} has classes that train has not: {', '.join(unknown[:5])}")
    files = {wnid: sorted(f.name for f in (folder / wnid).glob("*")) for wnid in wnids}
    files = {wnid: list(filter(is_image_name, names)) for wnid, names in files.items()}
    labels = np.repeat(np.arange(len(wnids)), [len(names) for names in files.values()])
    # a million strings take less memory than paths
    relative = [f"{wnid}/{name}" for wnid, names in files.items() for name in names]
    return RawImages(decode_all(relative, image_size, root=folder), labels, wnids)


def _class_names(folder: Path) -> tuple[str, ...]:
    """Return the class folders, sorted.

    Raises:
        DataError: Images are outside of class folders.
    """
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    if outside := [entry.name for entry in entries if is_image_name(entry.name)]:
        raise DataError(
            f"{folder} has {len(outside)} images outside of class folders, such as {outside[0]};"
            f" sort them into {folder.name}/WNID/"
        )
    return tuple(sorted(entry.name for entry in entries if entry.is_dir()))


def _folder_signatures(root: Path) -> Json:
    """Return when images were last added or removed; to check a million files would take long."""
    if not all((root / name).is_dir() for name in SPLIT_FOLDERS.values()):
        return {}
    return {
        name: {"changed_ns": [(root / name / wnid).stat().st_mtime_ns for wnid in classes]}
        for name, classes in ((name, _class_names(root / name)) for name in SPLIT_FOLDERS.values())
    }


def _batch_files(root: Path) -> list[Path]:
    """Find all eleven batches in their order, in `root` or one folder below; or none at all.

    Raises:
        DataError: Some are there and others are missing.
    """
    names = [name for split in BATCHES.values() for name in split]
    by_name = {name: _find_file(root, name) for name in names}
    files = [file for file in by_name.values() if file is not None]
    if files and len(files) < len(names):
        missing = ", ".join(name for name, file in by_name.items() if file is None)
        raise DataError(f"{root} lacks {missing}; extract the archives that hold them too")
    return files


def _find_file(root: Path, name: str) -> Path | None:
    patterns = (name, f"{name}.npz", f"*/{name}", f"*/{name}.npz")
    paths = (path for pattern in patterns for path in sorted(root.glob(pattern)))
    return next((path for path in paths if path.is_file()), None)


def _joined(batches: Sequence[Batch], image_size: int) -> LazyImages:
    """Join the images of all batches, resized."""
    starts = np.cumsum([0, *map(len, batches)]).tolist()

    def read(start: int, stop: int) -> Bytes:
        parts = []
        for batch, offset in zip(batches, starts, strict=False):
            low, high = max(start - offset, 0), min(stop - offset, len(batch))
            if low < high:
                parts.append(resize_images(batch.read(low, high), image_size))
        return np.concatenate(parts)

    return LazyImages((starts[-1], 3, image_size, image_size), read)
