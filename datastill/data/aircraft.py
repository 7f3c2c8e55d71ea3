"""FGVC-Aircraft 2013b: 10,000 photographs of 100 variants of aircraft (Maji et al., 2013)."""

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from datastill.core.errors import DataError
from datastill.data._archives import Archive, find_archive, open_archive
from datastill.data._lists import check_no_extra_files, class_labels, read_lines, read_pairs
from datastill.data._raw import DataLocation, RawImages
from datastill.data.decode import decode_all
from datastill.data.source import ImageSource

TABLES = {
    "train": "data/images_variant_trainval.txt",
    "test": "data/images_variant_test.txt",
}
VARIANTS = "data/variants.txt"
ARCHIVE = Archive(
    url="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",
    md5="d4acdd33327262359767eeaa97a4f732",
    folder="fgvc-aircraft-2013b",
    files=("data/images", *TABLES.values(), VARIANTS),
)


@dataclass(frozen=True)
class Aircraft(ImageSource):
    """FGVC-Aircraft by variant; trains on the official trainval, any number of variants will do.

    Photographs keep their banner, 20 pixels of copyright at the bottom: docs/fidelity.md#aircraft.
    """

    num_classes = 100
    native_size = 64  # photographs of many sizes, as for the other targets
    channels = 3
    licence = "non-commercial research; photographers keep the copyright"
    citation = (
        "S. Maji, J. Kannala, E. Rahtu, M. Blaschko, A. Vedaldi. Fine-Grained Visual Classification"
        " of Aircraft. arXiv:1306.5151, 2013."
    )
    counts = MappingProxyType({"train": 6_667, "test": 3_333})

    def _find(self, data_root: Path | None) -> DataLocation:
        return find_archive(ARCHIVE, data_root)

    def _read(self, split: str, image_size: int, location: DataLocation | None) -> RawImages:
        root = open_archive(ARCHIVE, location)
        images = root / "data" / "images"
        tables = {name: read_pairs(root / table) for name, table in TABLES.items()}
        known = {images / f"{number}.jpg" for rows in tables.values() for number, _ in rows}
        check_no_extra_files(
            images.glob("*.jpg"), known, f"the images of {' and '.join(TABLES.values())}"
        )
        variants = read_lines(root / VARIANTS)
        if foreign := sorted({variant for _, variant in tables[split]} - set(variants)):
            raise DataError(
                f"{root / TABLES[split]}: {', '.join(foreign[:5])} not in {VARIANTS};"
                " extract the archive again"
            )
        numbers = [variants.index(variant) for _, variant in tables[split]]
        labels = class_labels(numbers, len(variants), root / VARIANTS, first=0)
        decoded = decode_all([images / f"{number}.jpg" for number, _ in tables[split]], image_size)
        return RawImages(decoded, labels, tuple(variants))
