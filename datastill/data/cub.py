"""CUB-200-2011: 11,788 photographs of 200 species of birds (Wah et al., 2011)."""

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from datastill.core.errors import DataError
from datastill.data._archives import Archive, find_archive, open_archive
from datastill.data._lists import check_no_extra_files, class_labels, read_pairs
from datastill.data._raw import DataLocation, RawImages
from datastill.data.decode import decode_all
from datastill.data.source import ImageSource

TABLES = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")
ARCHIVE = Archive(
    url="https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
    md5="97eceeb196236b17998738112f37df78",
    folder="CUB_200_2011",
    files=(*TABLES, "images"),
)


@dataclass(frozen=True)
class Cub(ImageSource):
    """Caltech-UCSD Birds 200-2011, whole photographs; any number of classes will do."""

    num_classes = 200
    native_size = 64  # photographs of many sizes; this is what the paper uses
    channels = 3
    licence = "non-commercial research and education"
    citation = (
        "C. Wah, S. Branson, P. Welinder, P. Perona, S. Belongie. The Caltech-UCSD Birds-200-2011"
        " Dataset. Technical report CNS-TR-2011-001, California Institute of Technology, 2011."
    )
    counts = MappingProxyType({"train": 5_994, "test": 5_794})

    def _find(self, data_root: Path | None) -> DataLocation:
        return find_archive(ARCHIVE, data_root)

    def _read(self, split: str, image_size: int, location: DataLocation | None) -> RawImages:
        root = open_archive(ARCHIVE, location)
        files, classes, is_train, names = (dict(read_pairs(root / table)) for table in TABLES)
        if not files.keys() == classes.keys() == is_train.keys():
            raise DataError(
                f"{root}: {', '.join(TABLES[:3])} do not list the same images;"
                " extract the archive again"
            )
        known = [root / "images" / file for file in files.values()]
        check_no_extra_files((root / "images").glob("*/*.jpg"), known, f"the images of {TABLES[0]}")
        wanted = "1" if split == "train" else "0"
        chosen = [key for key in files if is_train[key] == wanted]
        order = {number: k for k, number in enumerate(names, start=1)}
        numbers = [order.get(classes[key], 0) for key in chosen]
        labels = class_labels(numbers, len(names), root / TABLES[1])
        images = decode_all([root / "images" / files[key] for key in chosen], image_size)
        return RawImages(images, labels, tuple(name.partition(".")[2] for name in names.values()))
