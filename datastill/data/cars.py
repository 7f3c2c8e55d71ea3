"""Stanford Cars: 16,185 photographs of 196 makes and models (Krause et al., 2013)."""

from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from datastill.core.errors import DataError
from datastill.core.options import Json
from datastill.data.archives import Archive, describe_files, find_local, open_archives
from datastill.data.cache import DataLocation, RawImages, cache_folder
from datastill.data.lists import HINT, check_no_extra_files, listed_images, read_mat
from datastill.data.source import ImageSource

SITE = "https://ai.stanford.edu/~jkrause"  # dead since 2023: nothing is downloaded from there
ANNOTATIONS = "cars_annos.mat"
TEST_ANNOTATIONS = "cars_test_annos_withlabels.mat"
DEVKIT = ("devkit/cars_meta.mat", "devkit/cars_train_annos.mat")
FOLDER = "stanford_cars"
JOINT = (  # all images in one folder; annotations say which are for testing
    Archive(f"{SITE}/{ANNOTATIONS}", "b407c6086d669747186bd1d764ff9dbc", "", (ANNOTATIONS,)),
    Archive(f"{SITE}/car_ims.tgz", "d5c8f0aa497503f355e17dc7886c3f14", "", ("car_ims",)),
)
APART = (  # a folder and an annotation file for each split
    Archive(f"{SITE}/car_devkit.tgz", "c3b158d763b6e2245038c8ad08e45376", "", DEVKIT),
    Archive(
        f"{SITE}/{TEST_ANNOTATIONS}", "b0a2b23655a3edd16d84508592a98d10", "", (TEST_ANNOTATIONS,)
    ),
    Archive(f"{SITE}/cars_train.tgz", "065e5b463ae28d29e77c1b4b166cfe61", "", ("cars_train",)),
    Archive(f"{SITE}/cars_test.tgz", "4ce7ebf6a94d07f1952d94dd34c4d501", "", ("cars_test",)),
)
BY_HAND = "https://github.com/pytorch/vision/issues/7545"  # users tell of living copies


class Cars(ImageSource):
    """Stanford Cars, whole photographs, in either of its two published layouts.

    As published in one piece (cars_annos.mat, car_ims) or by split (devkit, cars_train,
    cars_test, cars_test_annos_withlabels.mat); its address is dead, so it is not downloaded.
    """

    num_classes = 196
    native_size = 64  # photographs of many sizes, as for the other targets
    licence = "no formal licence; cite the paper"
    citation = (
        "J. Krause et al. 3D Object Representations for Fine-Grained Categorization. 3dRR, 2013."
    )
    counts = MappingProxyType({"train": 8_144, "test": 8_041})

    def _find(self, data_root: Path | None) -> DataLocation:
        for layout in (JOINT, APART):
            if location := find_local(FOLDER, layout, data_root):
                return location
        where = cache_folder() / "downloads" if data_root is None else data_root
        raise DataError(
            f"Stanford Cars is not in {where}, and its official address is dead: get it by hand"
            f" ({BY_HAND} tells where) and put into a folder {FOLDER} there either"
            f" {describe_files(*JOINT)}; or {describe_files(*APART)}"
        )

    def _read(self, split: str, image_size: int, location: DataLocation) -> RawImages:
        layout = JOINT if ANNOTATIONS in location.facts else APART
        roots = open_archives(layout, location)
        read = _list_joint if layout is JOINT else _list_apart
        return listed_images(*read(split, *roots), image_size)


Listed = tuple[list[Path], list[int], tuple[str, ...], Path]  # images, classes from 1, names, table


def _list_joint(split: str, lists: Path, images: Path) -> Listed:
    file = lists / ANNOTATIONS
    content = read_mat(file, ("annotations", "class_names"))
    rows = _rows(content, file, ("relative_im_path", "class", "test"))
    listed = [images / row["relative_im_path"] for row in rows]
    check_no_extra_files((images / "car_ims").glob("*.jpg"), listed, f"the images of {ANNOTATIONS}")
    chosen = [row for row in rows if bool(row["test"]) == (split == "test")]
    files = [images / row["relative_im_path"] for row in chosen]
    return files, [row["class"] for row in chosen], _names(content), file


def _list_apart(split: str, devkit: Path, lists: Path, train: Path, test: Path) -> Listed:
    names = _names(read_mat(devkit / DEVKIT[0], ("class_names",)))
    file = lists / TEST_ANNOTATIONS if split == "test" else devkit / DEVKIT[1]
    folder = test / "cars_test" if split == "test" else train / "cars_train"
    if (folder / folder.name).is_dir():  # as some mirrors pack it
        folder /= folder.name
    rows = _rows(read_mat(file, ("annotations",)), file, ("fname", "class"))
    listed = [folder / row["fname"] for row in rows]
    check_no_extra_files(folder.glob("*.jpg"), listed, f"the images of {file.name}")
    return listed, [row["class"] for row in rows], names, file


def _rows(content: Json, file: Path, fields: tuple[str, ...]) -> list[Json]:
    """Return one dictionary per image."""
    rows: list[Any] = list(np.atleast_1d(content["annotations"]))
    if any(not isinstance(row, dict) or not row.keys() >= set(fields) for row in rows):
        raise DataError(f"{file}: its annotations lack {', '.join(fields)}; {HINT}")
    return rows


def _names(content: Json) -> tuple[str, ...]:
    return tuple(str(name) for name in np.atleast_1d(content["class_names"]))
