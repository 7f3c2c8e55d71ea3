"""Oxford Flowers-102: 8,189 photographs of 102 kinds of flowers (Nilsback and Zisserman, 2008)."""

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np

from datastill.core.errors import DataError
from datastill.core.options import check_bounds, option
from datastill.data.archives import Archive, ArchiveSource
from datastill.data.cache import RawImages
from datastill.data.lists import HINT, check_no_extra_files, listed_images, read_mat

SITE = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102"
LABELS, SETS = "imagelabels.mat", "setid.mat"
PARTS = {"train": "trnid", "val": "valid", "test": "tstid"}  # variables of setid.mat
NUM_CLASSES = 102


@dataclass(frozen=True)
class Flowers(ArchiveSource):
    """Oxford Flowers-102, whole photographs; classes are numbers, their names are not published.

    Training images are a choice (docs/fidelity.md#flowers): flowers, or flowers:train+val.
    """

    num_classes = NUM_CLASSES
    native_size = 64  # photographs of many sizes, as for the other targets
    licence = "no formal licence; cite the paper"
    citation = (
        "M.-E. Nilsback, A. Zisserman. Automated Flower Classification over a Large Number of"
        " Classes. Indian Conference on Computer Vision, Graphics and Image Processing, 2008."
    )
    counts = MappingProxyType({"train": 1_020, "train:train+val": 2_040, "test": 6_149})
    folder = "flowers-102"
    archives = (
        Archive(f"{SITE}/102flowers.tgz", "52808999861908f626f3c1f4e79d11fa", "", ("jpg",)),
        Archive(f"{SITE}/{LABELS}", "e0620be6f572b9609742df49c70aed4d", "", (LABELS,)),
        Archive(f"{SITE}/{SETS}", "a5357ecc9cb78c4bef273ce3793fc85c", "", (SETS,)),
    )

    images: Literal["train", "train+val"] = option(
        "train", "official parts for training: train has 1,020 images, train+val has 2,040"
    )

    def __post_init__(self) -> None:
        check_bounds(self)

    def _read_archives(self, split: str, image_size: int, *roots: Path) -> RawImages:
        images, label_file, set_file = roots[0] / "jpg", roots[1] / LABELS, roots[2] / SETS
        numbers = np.atleast_1d(read_mat(label_file, ("labels",))["labels"])
        files = [images / f"image_{i + 1:05d}.jpg" for i in range(len(numbers))]
        check_no_extra_files(images.glob("*.jpg"), files, f"those labelled by {LABELS}")
        parts = ("test",) if split == "test" else tuple(self.images.split("+"))
        chosen = _positions(set_file, parts, len(files))
        classes = [str(k + 1) for k in range(NUM_CLASSES)]
        chosen_files = [files[i] for i in chosen]
        return listed_images(chosen_files, numbers[chosen], classes, label_file, image_size)


def _positions(file: Path, parts: tuple[str, ...], count: int) -> list[int]:
    """Return the positions, from 0, of the images of some official parts."""
    content = read_mat(file, tuple(PARTS.values()))
    sets = {part: [int(i) for i in np.atleast_1d(content[name])] for part, name in PARTS.items()}
    numbers = [number for part in sets.values() for number in part]
    if len(set(numbers)) < len(numbers):
        raise DataError(f"{file}: an image is in two of {', '.join(PARTS.values())}; {HINT}")
    if min(numbers) < 1 or max(numbers) > count:
        raise DataError(
            f"{file} names images {min(numbers)} to {max(numbers)}, but {LABELS} has labels for"
            f" 1 to {count}; {HINT}"
        )
    return [number - 1 for part in parts for number in sets[part]]
