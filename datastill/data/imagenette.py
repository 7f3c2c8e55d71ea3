"""Imagenette: 13,394 photographs of ten easy classes of ImageNet (Howard, 2019)."""

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from datastill.data.archives import Archive, ArchiveSource
from datastill.data.cache import RawImages
from datastill.data.imagenet import read_class_folders

NOISY = "noisy_imagenette.csv"  # in the archive beside the folders; not read
NAMES = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}


class Imagenette(ArchiveSource):
    """Imagenette, second version, shorter side 320 pixels; its validation is the test split.

    The folder of the full-size archive, imagenette2, is read too where --data-root says it.
    """

    num_classes = 10
    native_size = 224
    licence = "ImageNet terms for the images: non-commercial research"
    citation = "J. Howard. Imagenette. https://github.com/fastai/imagenette, 2019."
    counts = MappingProxyType({"train": 9_469, "test": 3_925})

    archives = (
        Archive(
            url="https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-320.tgz",
            md5="3df6f0d01a2c9592104656642f5e78a3",
            folder="imagenette2-320",
            files=("train", "val", NOISY),
        ),
    )

    def _read_archives(self, split: str, image_size: int, *roots: Path) -> RawImages:
        raw = read_class_folders(roots[0], split, image_size)
        return replace(raw, classes=tuple(NAMES.get(wnid, wnid) for wnid in raw.classes))
