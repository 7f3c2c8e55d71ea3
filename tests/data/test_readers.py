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
from datastill.data.tiny_imagenet import TinyImageNet

PACKS = Path(__file__).parents[3] / "shared" / "data"
needs_packs = pytest.mark.skipif(
    not (PACKS / "unpack.py").is_file(), reason="the real packs are not beside the checkout"
)


def test_cifar__planes_are_red_green_blue(tmp_path: Path) -> None:
    root = write_archive("cifar100", tmp_path)
    assert np.array_equal(Cifar100().load("train", 32, root).images, random_images(20))


def test_cifar__last_label_byte_is_the_class(tmp_path: Path) -> None:
    file = write_archive("cifar100", tmp_path) / "test.bin"
    content = bytearray(file.read_bytes())
    content[0] = 77  # the coarse label
    file.write_bytes(content)
    assert Cifar100().load("test", 32, tmp_path).labels.tolist() == list(range(0, 50, 5))


def test_cifar__resizing_a_flat_image_keeps_its_grey(tmp_path: Path) -> None:
    flat = np.full((1, 3, 32, 32), 90, np.uint8)
    write_records(write_archive("cifar100", tmp_path) / "test.bin", flat, [0], label_bytes=2)
    assert (Cifar100().load("test", 64, tmp_path).images == 90).all()


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    write_archive("tiny-imagenet", tmp_path)
    return tmp_path / "tiny-imagenet-200"


def test_tiny_imagenet__labels_follow_sorted_wnids(tiny: Path) -> None:
    images = TinyImageNet().load("test", 16, tiny)
    assert images.labels.tolist() == [2, 2, 0, 0, 1, 1]  # written in the order n03, n01, n02
    assert images.classes == ("name of n01", "name of n02", "name of n03")  # without synonyms


def test_tiny_imagenet__validation_images_may_be_sorted_by_class(tiny: Path) -> None:
    before = TinyImageNet().load("test", 16, tiny).fingerprint
    for line in (tiny / "val" / "val_annotations.txt").read_text().splitlines():
        name, wnid = line.split("\t")[:2]
        (tiny / "val" / wnid).mkdir(exist_ok=True)
        (tiny / "val" / "images" / name).rename(tiny / "val" / wnid / name)
    (tiny / "val" / "images").rmdir()
    assert TinyImageNet().load("test", 16, tiny).fingerprint == before


def test_tiny_imagenet__grey_images_have_three_equal_channels(tiny: Path) -> None:
    first = TinyImageNet().load("train", 64, tiny).images[0]
    assert torch.equal(first[0], first[1])


def test_tiny_imagenet__class_without_images_is_allowed(tiny: Path) -> None:
    for file in (tiny / "train" / "n02" / "images").iterdir():
        file.unlink()
    assert TinyImageNet().load("train", 16, tiny).labels.unique().tolist() == [0, 2]


@pytest.fixture
def cub(tmp_path: Path) -> Path:
    write_archive("cub", tmp_path)
    return tmp_path / "CUB_200_2011"


def test_cub__split_file_says_what_is_for_testing(cub: Path) -> None:
    assert Cub().load("train", 16, cub).labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    test = Cub().load("test", 16, cub)
    assert test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert test.classes == ("Auk", "Jay", "Owl")  # without their numbers


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
