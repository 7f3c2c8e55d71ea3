"""Stanford Dogs: 20,580 photographs of 120 breeds, taken from ImageNet (Khosla et al., 2011)."""

from pathlib import Path
from types import MappingProxyType

import numpy as np

from datastill.core.errors import DataError
from datastill.data.archives import Archive, ArchiveSource
from datastill.data.cache import RawImages
from datastill.data.lists import HINT, check_no_extra_files, listed_images, read_mat

SITE = "http://vision.stanford.edu/aditya86/ImageNetDogs"
LISTS = {"train": "train_list.mat", "test": "test_list.mat"}


class Dogs(ArchiveSource):
    """Stanford Dogs, whole photographs; its two archives lie in one folder.

    All of them are images of ImageNet: a source that holds ImageNet has seen them.
    """

    num_classes = 120
    native_size = 64  # photographs of many sizes, as for the other targets
    licence = "ImageNet terms: non-commercial research"
    citation = "A. Khosla et al. Novel Dataset for Fine-Grained Image Categorization. FGVC, 2011."
    counts = MappingProxyType({"train": 12_000, "test": 8_580})
    folder = "stanford_dogs"
    archives = (
        Archive(f"{SITE}/images.tar", "1bb1f2a596ae7057f99d7d75860002ef", "", ("Images",)),
        Archive(f"{SITE}/lists.tar", "edbb9f16854ec66506b5f09b583e0656", "", tuple(LISTS.values())),
    )

    def _read_archives(self, split: str, image_size: int, *roots: Path) -> RawImages:
        images, lists = roots[0] / "Images", roots[1]
        rows = {name: _rows(lists / file) for name, file in LISTS.items()}
        both = [row for part in rows.values() for row in part]
        among = f"the images of {' and '.join(LISTS.values())}"
        check_no_extra_files(images.glob("*/*.jpg"), [images / file for file, _ in both], among)
        # names of the breeds are written in the names of their folders alone
        pairs = {(number, file.partition("/")[0].partition("-")[2]) for file, number in both}
        breeds = dict(sorted(pairs))
        if len(breeds) != len(pairs) or list(breeds) != list(range(1, len(pairs) + 1)):
            raise DataError(
                f"{lists}: the labels of {' and '.join(LISTS.values())} do not number the breeds'"
                f" folders from 1; {HINT}"
            )
        numbers = [number for _, number in rows[split]]
        files = [images / file for file, _ in rows[split]]
        classes = tuple(breeds.values())
        return listed_images(files, numbers, classes, lists / LISTS[split], image_size)


def _rows(file: Path) -> list[tuple[str, int]]:
    """Image and class number, from 1, of every row of a list."""
    content = read_mat(file, ("file_list", "labels"))
    names, numbers = np.atleast_1d(content["file_list"]), np.atleast_1d(content["labels"])
    if len(names) != len(numbers):
        raise DataError(f"{file} has {len(numbers)} labels for {len(names)} images; {HINT}")
    return [(str(name), int(number)) for name, number in zip(names, numbers, strict=True)]
