"""CUB-200-2011: 11,788 photographs of 200 species of birds (Wah et al., 2011)."""

from pathlib import Path
from types import MappingProxyType

from datastill.core.errors import DataError
from datastill.data.archives import Archive, ArchiveSource
from datastill.data.cache import RawImages
from datastill.data.lists import HINT, check_no_extra_files, listed_images, read_pairs

TABLES = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")


class Cub(ArchiveSource):
    """Caltech-UCSD Birds 200-2011, whole photographs; any number of classes will do."""

    num_classes = 200
    native_size = 64  # photographs of many sizes; this is what the paper uses
    licence = "non-commercial research and education"
    citation = (
        "C. Wah et al. The Caltech-UCSD Birds-200-2011 Dataset. CNS-TR-2011-001, Caltech, 2011."
    )
    counts = MappingProxyType({"train": 5_994, "test": 5_794})
    archives = (
        Archive(
            url="https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
            md5="97eceeb196236b17998738112f37df78",
            folder="CUB_200_2011",
            files=(*TABLES, "images"),
        ),
    )

    def _read_archives(self, split: str, image_size: int, *roots: Path) -> RawImages:
        (root,) = roots
        files, classes, is_train, names = (dict(read_pairs(root / table)) for table in TABLES)
        if not files.keys() == classes.keys() == is_train.keys():
            raise DataError(f"{root}: {', '.join(TABLES[:3])} do not list the same images; {HINT}")
        listed = {number: root / "images" / file for number, file in files.items()}
        among = f"the images of {TABLES[0]}"
        check_no_extra_files((root / "images").glob("*/*.jpg"), listed.values(), among)
        flag = "1" if split == "train" else "0"
        chosen = [number for number in files if is_train[number] == flag]
        order = {number: k for k, number in enumerate(names, start=1)}
        numbers = [order.get(classes[number], 0) for number in chosen]
        species = [name.partition(".")[2] for name in names.values()]
        images = [listed[number] for number in chosen]
        return listed_images(images, numbers, species, root / TABLES[1], image_size)
