import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from archives import write_archive

from datastill.core.errors import ChecksumError, DataError
from datastill.data.cache import Prepared
from datastill.data.check import check, contact_sheet, prepare
from datastill.data.cifar10 import Cifar10
from datastill.data.cifar100 import Cifar100
from datastill.images import ImageSet, Normalizer


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_archive("cifar100", tmp_path / "official")
    return tmp_path / "official"


@pytest.fixture
def prepared(root: Path) -> Prepared:
    prepare(Cifar100(), 16, root)
    return Cifar100().prepared("train", 16)


def test_prepared__lies_in_the_cache_and_is_memory_mapped_without_a_warning(
    prepared: Prepared, root: Path, cache: Path
) -> None:
    assert prepared.path == cache / "prepared" / "cifar100" / "16" / "train.images.npy"
    assert str(cache) not in (prepared.folder / "train.json").read_text()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train = Cifar100().load("train", 16, root)
    assert torch.equal(train.labels, torch.arange(0, 100, 5))
    train.images[0] = 0  # copy-on-write: the file stays as it is
    assert prepared.verify()


def test_prepared__stays_usable_without_data_root_and_when_the_archive_is_gone(root: Path) -> None:
    Cifar100().load("train", 16, root)
    assert len(Cifar100().load("train", 16)) == 20
    shutil.rmtree(root)
    assert len(Cifar100().load("train", 16)) == 20
    with pytest.raises(DataError, match=r"is gone; say with --data-root"):
        Cifar100().load("test", 16)


@pytest.mark.parametrize("is_passed", [True, False])
def test_prepared__changed_archive_is_read_again(prepared, root: Path, is_passed: bool) -> None:
    file = root / "cifar-100-binary" / "test.bin"
    file.write_bytes(file.read_bytes()[: 3074 * 3])
    assert len(Cifar100().load("test", 16, root if is_passed else None)) == 3


def test_prepared__truncated_cache_is_made_again(prepared: Prepared, root: Path) -> None:
    before = Cifar100().load("train", 16, root).fingerprint
    prepared.path.write_bytes(prepared.path.read_bytes()[:-100])
    assert Cifar100().load("train", 16, root).fingerprint == before


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 0}'])
def test_prepared__damaged_manifest_is_made_again(prepared: Prepared, root: Path, text) -> None:
    manifest = prepared.folder / "train.json"
    manifest.write_text(text)
    Cifar100().load("train", 16, root)
    assert json.loads(manifest.read_text())["files"].keys() == {"images", "labels"}


def test_check__changed_byte_is_found(prepared: Prepared, root: Path) -> None:
    content = bytearray(prepared.path.read_bytes())
    content[-1] ^= 1
    prepared.path.write_bytes(content)
    with pytest.raises(ChecksumError, match=r"train\.images\.npy has changed"):
        check(Cifar100(), 16, root)


def test_check__report_has_counts_and_is_json(tmp_path: Path) -> None:
    write_archive("cifar10", tmp_path)
    report = check(Cifar10(), None, tmp_path)
    train = report["splits"]["train"]
    assert (train["count"], train["official_count"], train["complete"]) == (20, 50_000, False)
    assert train["images_per_class"] == [2, 2]
    assert json.loads(json.dumps(report)) == report


def test_verify__unprepared_split_names_the_command(cache: Path) -> None:
    with pytest.raises(DataError, match="datastill data prepare"):
        Cifar100().prepared("train", 16).verify()


def test_contact_sheet__classes_with_few_images_are_filled_with_white() -> None:
    images = torch.arange(5, dtype=torch.uint8).reshape(5, 1, 1, 1)
    labels = torch.tensor([2, 0, 0, 2, 0])
    toy = ImageSet("toy", images, Normalizer((0.0,), (1.0,)), labels, ("a", "b", "c"))
    sheet, classes = contact_sheet(toy, columns=3)
    assert classes == ["a", "c"]
    assert (sheet * 255).flatten().tolist() == [1, 2, 4, 0, 3, 255]


def test_contact_sheet__twenty_of_many_classes_are_spread_over_all() -> None:
    images = torch.zeros(100, 1, 1, 1, dtype=torch.uint8)
    names = tuple(map(str, range(100)))
    toy = ImageSet("toy", images, Normalizer((0.0,), (1.0,)), torch.arange(100), names)
    sheet, classes = contact_sheet(toy)
    assert len(sheet) == 20 * 10
    assert len(set(classes)) == 20 and classes[0] == "0" and classes[-1] == "99"
