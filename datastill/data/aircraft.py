"""FGVC-Aircraft 2013b: 10,000 photographs of 100 variants of aircraft (Maji et al., 2013)."""

from pathlib import Path
from types import MappingProxyType

from datastill.core.errors import DataError
from datastill.data.archives import Archive, ArchiveSource
from datastill.data.cache import RawImages
from datastill.data.lists import HINT, check_no_extra_files, listed_images, read_lines, read_pairs

TABLES = {
    "train": "data/images_variant_trainval.txt",
    "test": "data/images_variant_test.txt",
}
VARIANTS = "data/variants.txt"


class Aircraft(ArchiveSource):
    """FGVC-Aircraft by variant; trains on the official trainval, any number of variants will do.

    Photographs keep their banner, 20 pixels of copyright at the bottom: docs/fidelity.md#aircraft.
    """

    num_classes = 100
    native_size = 64  # photographs of many sizes, as for the other targets
    licence = "non-commercial research; photographers keep the copyright"
    citation = (
        "S. Maji et al. Fine-Grained Visual Classification of Aircraft. arXiv:1306.5151, 2013."
    )
    counts = MappingProxyType({"train": 6_667, "test": 3_333})
    archives = (
        Archive(
            url="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/"
            "fgvc-aircraft-2013b.tar.gz",
            md5="d4acdd33327262359767eeaa97a4f732",
            folder="fgvc-aircraft-2013b",
            files=("data/images", *TABLES.values(), VARIANTS),
        ),
    )

    def _read_archives(self, split: str, image_size: int, *roots: Path) -> RawImages:
        (root,) = roots
        images = root / "data" / "images"
        tables = {name: read_pairs(root / table) for name, table in TABLES.items()}
        listed = {images / f"{number}.jpg" for rows in tables.values() for number, _ in rows}
        among = f"the images of {' and '.join(TABLES.values())}"
        check_no_extra_files(images.glob("*.jpg"), listed, among)
        variants, rows = read_lines(root / VARIANTS), tables[split]
        if unknown := sorted({variant for _, variant in rows} - set(variants)):
            raise DataError(
                f"{root / TABLES[split]}: {', '.join(unknown[:5])} not in {VARIANTS}; {HINT}"
            )
        numbers = [variants.index(variant) for _, variant in rows]
        files = [images / f"{number}.jpg" for number, _ in rows]
        return listed_images(files, numbers, variants, root / VARIANTS, image_size, first=0)
