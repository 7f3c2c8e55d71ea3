"""Stanford Dogs: 20,580 photographs of 120 breeds, taken from ImageNet (Khosla et al., 2011)."""

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from datastill.core.errors import DataError
from datastill.data._archives import Archive, Collection, find_collection, open_collection
from datastill.data._lists import check_no_extra_files, class_labels, read_mat
from datastill.data._raw import DataLocation, RawImages
from datastill.data.decode import decode_all
from datastill.data.source import ImageSource

SITE = "http://vision.stanford.edu/aditya86/ImageNetDogs"
LISTS = {"train": "train_list.mat", "test": "test_list.mat"}
COLLECTION = Collection(
    "stanford_dogs",
    (
        Archive(f"{SITE}/images.tar", "1bb1f2a596ae7057f99d7d75860002ef", "", ("Images",)),
        Archive(f"{SITE}/lists.tar", "edbb9f16854ec66506b5f09b583e0656", "", tuple(LISTS.values())),
    ),
)


@dataclass(frozen=True)
class Dogs(ImageSource):
    """Stanford Dogs, whole photographs; its two archives lie in one folder.

    All of them are images of ImageNet: a source that holds ImageNet has seen them.
    """

    num_classes = 120
    native_size = 64  # photographs of many sizes, as for the other targets
    channels = 3
    licence = "ImageNet terms: non-commercial research"
    citation = (
        "A. Khosla, N. Jayadevaprakash, B. Yao, L. Fei-Fei. Novel Dataset for Fine-Grained Image"
        " Categorization. First Workshop on Fine-Grained Visual Categorization, CVPR, 2011."
    )
    counts = MappingProxyType({"train": 12_000, "test": 8_580})

    def _find(self, data_root: Path | None) -> DataLocation:
        return find_collection(COLLECTION, data_root)

    def _read(self, split: str, image_size: int, location: DataLocation | None) -> RawImages:
        images, lists = open_collection(COLLECTION, location)
        rows = {name: _rows(lists / file) for name, file in LISTS.items()}
        known = [images / "Images" / file for part in rows.values() for file, _ in part]
        among = f"the images of {' and '.join(LISTS.values())}"
        check_no_extra_files((images / "Images").glob("*/*.jpg"), known, among)
        breeds = _breeds(lists, [row for part in rows.values() for row in part])
        numbers = [number for _, number in rows[split]]
        labels = class_labels(numbers, len(breeds), lists / LISTS[split])
        decoded = decode_all([images / "Images" / file for file, _ in rows[split]], image_size)
        return RawImages(decoded, labels, breeds)


def _rows(file: Path) -> list[tuple[str, int]]:
    """Image and class number, from 1, of every row of a list."""
    content = read_mat(file, ("file_list", "labels"))
    names, numbers = np.atleast_1d(content["file_list"]), np.atleast_1d(content["labels"])
    if len(names) != len(numbers):
        raise DataError(
            f"{file} has {len(numbers)} labels for {len(names)} images; extract the archive again"
        )
    return [(str(name), int(number)) for name, number in zip(names, numbers, strict=True)]


def _breeds(lists: Path, rows: list[tuple[str, int]]) -> tuple[str, ...]:
    """Names of the breeds by number; they are written in the names of the folders alone."""
    pairs = {(number, name.partition("/")[0].partition("-")[2]) for name, number in rows}
    breeds = dict(sorted(pairs))
    if len(breeds) != len(pairs) or list(breeds) != list(range(1, len(pairs) + 1)):
        raise DataError(
            f"{lists}: the labels of {' and '.join(LISTS.values())} do not number the breeds'"
            " folders from 1; extract the archive again"
        )
    return tuple(breeds.values())
