"""The readers of the fine-grained target data: labels, splits and choices of their own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from archives import save_image, write_archive, write_mat
from PIL import Image
from scipy.io import loadmat

from datastill.core.errors import ConfigError, DataError
from datastill.data.aircraft import Aircraft
from datastill.data.cars import Cars
from datastill.data.flowers import Flowers
from datastill.data.source import source


def test_aircraft__banner_is_kept(tmp_path: Path) -> None:
    root = write_archive("aircraft", tmp_path)
    picture = np.full((40, 40, 3), 255, np.uint8)
    picture[-20:] = 0  # the banner
    Image.fromarray(picture).save(root / "data" / "images" / "0000000.jpg", quality=100)
    first = Aircraft().load("test", 40, root).images[0]
    assert torch.equal(first.permute(1, 2, 0) > 127, torch.from_numpy(picture > 127))


@pytest.fixture
def cars(tmp_path: Path) -> Path:
    write_archive("cars", tmp_path)
    return tmp_path / "stanford_cars"


def apart(joint: Path, root: Path) -> Path:
    """The same images and labels in the layout with a folder for each split."""
    content = loadmat(joint / "cars_annos.mat", simplify_cells=True)
    tables: dict[str, list] = {"train": [], "test": []}
    for row in content["annotations"]:
        split = "test" if row["test"] else "train"
        name = f"{len(tables[split]) + 1:05d}.jpg"
        (root / f"cars_{split}").mkdir(parents=True, exist_ok=True)
        (joint / row["relative_im_path"]).rename(root / f"cars_{split}" / name)
        tables[split].append({"bbox_x1": 1, "class": row["class"], "fname": name})
    names = np.array([content["class_names"]], object)
    write_mat(root / "devkit" / "cars_meta.mat", {"class_names": names})
    write_mat(root / "devkit" / "cars_train_annos.mat", {"annotations": tables["train"]})
    write_mat(root / "cars_test_annos_withlabels.mat", {"annotations": tables["test"]})
    return root


def test_cars__both_layouts_give_the_same_images(cars: Path, tmp_path: Path) -> None:
    joint = [Cars().load(split, 16, cars) for split in ("train", "test")]
    root = apart(cars, tmp_path / "apart")
    for split, before in zip(("train", "test"), joint, strict=True):
        after = Cars().load(split, 16, root)
        assert after.fingerprint == before.fingerprint
        assert after.classes == before.classes
    for folder in (root / "cars_train", root / "cars_test"):  # as some mirrors pack it
        folder.rename(root / "moved")
        folder.mkdir()
        (root / "moved").rename(folder / folder.name)
    assert Cars().load("test", 16, root).fingerprint == joint[1].fingerprint


def test_cars__missing_archive_says_where_to_get_it_and_where_to_put_it() -> None:
    with pytest.raises(DataError, match=r"address is dead: .*7545.*stanford_cars.*car_ims\.tgz"):
        Cars().load("train", 16)


def test_cars__annotations_without_labels_are_refused(cars: Path, tmp_path: Path) -> None:
    root = apart(cars, tmp_path / "apart")
    unlabelled = [{"bbox_x1": 1, "fname": "00001.jpg"}] * 2
    write_mat(root / "cars_test_annos_withlabels.mat", {"annotations": unlabelled})
    with pytest.raises(DataError, match=r"withlabels\.mat: its annotations lack fname, class"):
        Cars().load("test", 16, root)


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    """Photographs whose red value tells their number."""
    write_archive("flowers", tmp_path)
    root = tmp_path / "flowers-102"
    for number in range(1, 19):
        flat = np.full((3, 20, 20), 10 * number, np.uint8)
        save_image(root / "jpg" / f"image_{number:05d}.jpg", flat)
    return root


def numbers(name: str, split: str, root: Path) -> list[int]:
    images = source(name).load(split, 16, root).images
    return (images[:, 0, 8, 8].float() / 10).round().int().tolist()


@pytest.mark.parametrize(
    ("name", "train"),
    [
        ("flowers", [1, 4, 7, 10, 13, 16]),
        ("flowers:train", [1, 4, 7, 10, 13, 16]),
        ("flowers:train+val", [1, 4, 7, 10, 13, 16, 2, 5, 8, 11, 14, 17]),
    ],
)
def test_flowers__training_images_are_a_choice_and_test_images_are_not(
    flowers: Path, name: str, train: list[int]
) -> None:
    assert numbers(name, "train", flowers) == train
    assert numbers(name, "test", flowers) == [3, 6, 9, 12, 15, 18]


def test_flowers__labels_belong_to_image_numbers(flowers: Path) -> None:
    test = Flowers().load("test", 16, flowers)
    assert test.labels.tolist() == [0, 20, 40, 60, 80, 100]
    assert test.classes[100] == "101"


def test_flowers__unknown_part_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"images='val': expected train or train\+val"):
        source("flowers:val")
