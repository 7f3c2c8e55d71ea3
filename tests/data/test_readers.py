"""The readers of official formats, on files written here and, where they are, on real packs."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from archives import random_images, write_archive, write_records

from datastill.data.check import check
from datastill.data.cifar10 import Cifar10
from datastill.data.cifar100 import Cifar100
from datastill.data.cub import Cub
from datastill.data.source import source
from datastill.data.tiny_imagenet import TinyImageNet

PACKS = Path(__file__).parents[3] / "shared" / "data"
needs_packs = pytest.mark.skipif(
    not (PACKS / "unpack.py").is_file(), reason="the real packs are not beside the checkout"
)


CLASSES = {
    "aircraft": ("707-320", "DC-9 30", "F/A-18"),  # in the order of the list of variants
    "cars": ("Audi S4 Sedan 2012", "BMW M3 Coupe 2012", "Ram C/V Cargo Van 2012"),
    "cub": ("Auk", "Jay", "Owl"),  # without their numbers
    "dogs": ("Chow", "Pug", "Cairn_terrier"),
    "imagenette": ("tench", "English springer", "cassette player"),
    "tiny-imagenet": ("name of n01", "name of n02", "name of n03"),  # without synonyms
}


@pytest.mark.parametrize("name", CLASSES)
def test_every_list__says_split_and_label_and_class(name: str, tmp_path: Path) -> None:
    write_archive(name, tmp_path)
    train, test = (source(name).load(split, 16, tmp_path) for split in ("train", "test"))
    assert train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    written = [2, 2, 0, 0, 1, 1] if name == "tiny-imagenet" else [0, 0, 1, 1, 2, 2]
    assert test.labels.tolist() == written
    assert train.classes == test.classes == CLASSES[name]


def test_cifar__planes_are_red_green_blue_and_the_last_label_byte_is_the_class(
    tmp_path: Path,
) -> None:
    file = write_archive("cifar100", tmp_path) / "train.bin"
    content = bytearray(file.read_bytes())
    content[0] = 77  # the coarse label
    file.write_bytes(content)
    train = Cifar100().load("train", 32, tmp_path)
    assert np.array_equal(train.images, random_images(20))
    assert train.labels.tolist() == list(range(0, 100, 5))


def test_cifar__resizing_a_flat_image_keeps_its_grey(tmp_path: Path) -> None:
    flat = np.full((1, 3, 32, 32), 90, np.uint8)
    write_records(write_archive("cifar100", tmp_path) / "test.bin", flat, [0], label_bytes=2)
    assert (Cifar100().load("test", 64, tmp_path).images == 90).all()


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    write_archive("tiny-imagenet", tmp_path)
    return tmp_path / "tiny-imagenet-200"


def test_tiny_imagenet__validation_images_may_be_sorted_by_class(tiny: Path) -> None:
    before = TinyImageNet().load("test", 16, tiny).fingerprint
    for line in (tiny / "val" / "val_annotations.txt").read_text().splitlines():
        name, wnid = line.split("\t")[:2]
        (tiny / "val" / wnid).mkdir(exist_ok=True)
        (tiny / "val" / "images" / name).rename(tiny / "val" / wnid / name)
    (tiny / "val" / "images").rmdir()
    assert TinyImageNet().load("test", 16, tiny).fingerprint == before


def test_tiny_imagenet__grey_images_and_classes_without_images_are_allowed(tiny: Path) -> None:
    for file in (tiny / "train" / "n02" / "images").iterdir():
        file.unlink()
    train = TinyImageNet().load("train", 64, tiny)
    assert train.labels.unique().tolist() == [0, 2]
    assert torch.equal(train.images[0, 0], train.images[0, 1])


def unpack(name: str, out: Path, *, limit: int | None = None) -> dict[str, Any]:
    """Lay out a real pack, or its images `::limit`, as the official archive; its arrays."""
    tool = runpy.run_path(str(PACKS / "unpack.py"))
    splits, classes = tool["load"](name)
    splits = {split: (x[::limit], y[::limit]) for split, (x, y) in splits.items()}
    out.mkdir()
    tool["OFFICIAL"][name](splits, classes, out)
    return splits


@needs_packs
@pytest.mark.packs
def test_cub_pack__has_its_counts(tmp_path: Path) -> None:
    unpack("cub100_32_lossless", tmp_path / "pack")
    report = check(Cub(), 32, tmp_path / "pack")
    counts = {split: facts["count"] for split, facts in report["splits"].items()}
    assert counts == {"train": 2999, "test": 2903}
    assert len(report["classes"]) == 100


@needs_packs
@pytest.mark.packs
def test_tiny_imagenet_pack__images_and_labels_are_those_of_the_pack(tmp_path: Path) -> None:
    images, labels = unpack("tinyimagenet64_subset_q95", tmp_path / "pack", limit=10)["test"]
    test = TinyImageNet().load("test", 64, tmp_path / "pack")
    assert torch.equal(test.labels, torch.from_numpy(labels))
    difference = test.images.numpy().transpose(0, 2, 3, 1).astype(int) - images
    assert abs(difference).mean() < 3  # re-encoded as JPEG of quality 95


@needs_packs
@pytest.mark.packs
@pytest.mark.slow
def test_cifar10_pack__is_complete(tmp_path: Path) -> None:
    unpack("cifar10_q95", tmp_path / "pack")
    report = check(Cifar10(), 32, tmp_path / "pack")
    assert all(facts["complete"] for facts in report["splits"].values())
    assert report["splits"]["train"]["images_per_class"] == [5000, 5000]
