"""ImageNet's two layouts; batches are files of other people, and nothing in them is ever run."""

import io
import os
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from archives import random_images, save_image, write_archive, write_batch

from datastill.core.errors import DataError, SubsetWarning
from datastill.data._imagenet_batches import open_batch
from datastill.data.imagenet import BATCHES, ImageNet


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_archive("imagenet", tmp_path / "official")
    return tmp_path / "official" / "imagenet"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A batch of ten images of 8 x 8 pixels."""
    write_batch(tmp_path / "train_data_batch_1", random_images(10, 8), list(range(1, 11)))
    return tmp_path / "train_data_batch_1"


def batch(count: int = 10, side: int = 8) -> dict[str, object]:
    """What the official scripts pickle."""
    rows = random_images(count, side).reshape(count, -1)
    return {"data": rows, "labels": list(range(1, count + 1)), "mean": rows.mean(0)}


def test_imagenet__images_of_all_batches_in_order(root: Path) -> None:
    with pytest.warns(SubsetWarning, match=r"imagenet/train has 20 images.*officially 1281167"):
        images = ImageNet().load("train", 64, root)
    assert torch.equal(images.images[6:8], torch.from_numpy(random_images(2, 64, seed=3)))
    assert images.labels[:4].tolist() == [0, 100, 3, 103]
    assert images.classes[3] == "4"
    for split, names in BATCHES.items():  # in a folder for each archive
        for name in names:
            (root / split).mkdir(exist_ok=True)
            (root / name).rename(root / split / name)
    assert ImageNet().load("train", 64, root.parent).fingerprint == images.fingerprint


def test_imagenet__missing_batch_and_labels_beyond_the_classes_are_refused(root: Path) -> None:
    write_batch(root / "val_data", random_images(2, 64), [1, 1001])
    with pytest.raises(DataError, match="imagenet/test: labels run from 0 to 1000"):
        ImageNet().load("test", 64, root)
    (root / "train_data_batch_7").unlink()
    with pytest.raises(DataError, match=r"lacks train_data_batch_7; extract"):
        ImageNet().load("train", 64, root)


def test_imagenet__npz_files_give_the_same_images(root: Path) -> None:
    expected = ImageNet().load("train", 64, root).fingerprint
    for name in (name for split in BATCHES.values() for name in split):
        with (root / name).open("rb") as opened:
            content = pickle.load(opened)
        np.savez(root / f"{name}.npz", **content)
        (root / name).unlink()
    assert ImageNet().load("train", 64, root).fingerprint == expected


def test_imagenet__nothing_there_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"image-net\.org.* account.*--data-root"):
        ImageNet().load("train", 64, tmp_path)


def test_imagenet__batches_smaller_than_asked_for_say_their_size(tmp_path: Path) -> None:
    for name in (name for split in BATCHES.values() for name in split):
        write_batch(tmp_path / name, random_images(1, 32), [1])
    with pytest.raises(DataError, match=r"train_data_batch_1 has images of 32 .*--image-size 32"):
        ImageNet().load("train", None, tmp_path)
    assert len(ImageNet().load("train", 32, tmp_path)) == 10


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("count", [10, 600])  # from 64 kB on, later protocols write otherwise
def test_batch__pickle_of_any_protocol_is_read_right_or_refused(
    tmp_path: Path, protocol: int, count: int
) -> None:
    file = tmp_path / "train_data_batch_1"
    file.write_bytes(pickle.dumps(batch(count), protocol=protocol))
    try:
        opened_batch = open_batch(file)
    except DataError:
        assert protocol != 3
        return
    assert np.array_equal(opened_batch.read(0, count), random_images(count, 8))
    assert opened_batch.labels.tolist() == list(range(count))


@pytest.mark.parametrize("package", [b"numpy.core.", b"numpy._core."])  # before numpy 2, and since
def test_batch__names_of_any_numpy_are_known(file: Path, package: bytes) -> None:
    content, count = re.subn(rb"numpy\._?core\.", package, file.read_bytes())
    assert count > 0
    file.write_bytes(content)
    assert np.array_equal(open_batch(file).read(2, 4), random_images(10, 8)[2:4])


class Harmful:
    """Runs a command when it is unpickled."""

    def __init__(self, function: object, *words: object) -> None:
        self.words = (function, words)

    def __reduce__(self) -> tuple[object, ...]:
        return self.words


@pytest.mark.parametrize("where", ["data", "labels", "mean", "extra"])
@pytest.mark.parametrize("function", [os.system, exec, np.load, os.mkdir])
def test_batch__pickle_that_names_anything_else_is_refused_and_not_run(
    tmp_path: Path, function: object, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "train_data_batch_1"
    words = "open('run', 'w')" if function is exec else "run" if function is os.mkdir else "> run"
    file.write_bytes(pickle.dumps({**batch(), where: Harmful(function, words)}, protocol=3))
    with pytest.raises(DataError, match=r"train_data_batch_1 is damaged .* it names \w"):
        open_batch(file)
    assert [path.name for path in tmp_path.iterdir()] == ["train_data_batch_1"]


def test_batch__no_array_of_numpy_is_made_from_a_pickle(file: Path, monkeypatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("numpy was called by a pickle")

    module = np.empty(0).__reduce__()[0].__module__  # another one before numpy 2
    monkeypatch.setattr(f"{module}._reconstruct", never)
    monkeypatch.setattr(np, "dtype", never)
    assert len(open_batch(file)) == 10


@pytest.mark.parametrize("kept", [0, 1, 40, 170, 1000, -1, -30])
@pytest.mark.parametrize("suffix", ["", ".npz"])
def test_batch__truncated_file_is_named(file: Path, suffix: str, kept: int) -> None:
    file = file.with_suffix(suffix)
    if suffix:
        np.savez(file, **batch())
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(DataError, match=rf"train_data_batch_1{suffix} is damaged or no batch"):
        open_batch(file)


def test_batch__that_became_shorter_is_noticed_when_it_is_read(file: Path) -> None:
    opened_batch = open_batch(file)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DataError, match="train_data_batch_1 is truncated"):
        opened_batch.read(0, 10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [1, 2]}, "10 images but 2 labels"),
        ({"labels": ["cat"] * 10}, "invalid literal"),
        ({"data": np.zeros((10, 191), np.uint8)}, "not rows of 3 square planes"),
        ({"data": np.zeros((10, 3, 8, 8), np.uint8)}, "not rows of 3 square planes"),
        ({"data": np.zeros((10, 192))}, "it has f8 .*, not rows of 3 square planes of u1"),
        ({"data": [1, 2]}, "extract"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".npz"])
def test_batch__wrong_content_is_named(
    tmp_path: Path, change: dict[str, object], message: str, suffix: str
) -> None:
    file, content = tmp_path / f"val_data{suffix}", {**batch(), **change}
    if suffix:
        np.savez(file, **content)  # type: ignore[arg-type]
    else:
        file.write_bytes(pickle.dumps(content, protocol=3))
    with pytest.raises(DataError, match=rf"val_data{suffix} is damaged or no batch.*{message}"):
        open_batch(file)


def test_batch__npz_with_a_pickle_in_it_or_compressed_is_refused(tmp_path: Path) -> None:
    harmful = np.array([Harmful(os.mkdir, str(tmp_path / "run"))], object)
    for part in ("data", "labels"):
        content = {**batch(), part: harmful}
        np.savez(tmp_path / "val_data.npz", **content)
        with pytest.raises(DataError, match=r"val_data\.npz is damaged or no batch"):
            open_batch(tmp_path / "val_data.npz")
    assert not (tmp_path / "run").exists()
    np.savez_compressed(tmp_path / "val_data.npz", **batch())
    with pytest.raises(DataError, match=r"compressed, save it with numpy\.savez"):
        open_batch(tmp_path / "val_data.npz")


def test_batch__npz_with_an_extra_field_is_read(tmp_path: Path) -> None:
    rows = io.BytesIO()
    np.save(rows, batch()["data"])
    with zipfile.ZipFile(tmp_path / "val_data.npz", "w") as pack:
        for name, value in (("labels", np.arange(1, 11)), ("mean", np.zeros(192))):
            with pack.open(f"{name}.npy", "w") as member:
                np.save(member, value)
        info = zipfile.ZipInfo("data.npy")
        info.extra = b"\x99\x99\x04\x00abcd"
        pack.writestr(info, rows.getvalue())
    opened_batch = open_batch(tmp_path / "val_data.npz")
    assert np.array_equal(opened_batch.read(3, 9), random_images(10, 8)[3:9])


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Photographs: three classes with three training and two validation images each."""
    for i, image in enumerate(random_images(15, 80)):
        split, wnid = ("val" if i % 5 > 2 else "train"), f"n{3 - i // 5}"
        save_image(tmp_path / "photos" / split / wnid / f"{i:02d}.JPEG", image[:, : 40 + i])
    return tmp_path / "photos"


def test_imagenet__folders_are_numbered_by_sorted_wnid(folders: Path) -> None:
    flat = random_images(1, 80)[0] * 0
    save_image(folders / "train" / "n3" / "00.JPEG", flat + 180)
    train, test = (ImageNet().load(split, 16, folders) for split in ("train", "test"))
    assert train.classes == test.classes == ("n1", "n2", "n3")
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert (train.images[6] == 180).all()
    save_image(folders / "train" / "n2" / "99.JPEG", flat)  # is noticed
    assert len(ImageNet().load("train", 16, folders)) == 10


def test_imagenet__bad_folders_are_named(folders: Path) -> None:
    damaged, loose = folders / "train" / "n2" / "07.JPEG", folders / "val" / "loose.JPEG"
    damaged.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"n2/07\.JPEG; extract"):
        ImageNet().load("train", 16, folders)
    damaged.unlink()
    (folders / "val" / "n3").rename(folders / "val" / "n9")
    with pytest.raises(DataError, match="has classes that train has not: n9"):
        ImageNet().load("test", 16, folders)
    save_image(loose, random_images(1, 80)[0])
    with pytest.raises(DataError, match=r"val has 1 images outside of class .* sort them into"):
        ImageNet().load("test", 16, folders)


def test_imagenet__stays_usable_when_the_photographs_are_gone(folders: Path) -> None:
    expected = ImageNet().load("train", 16, folders).fingerprint
    folders.rename(folders.with_name("moved"))
    assert ImageNet().load("train", 16).fingerprint == expected
    with pytest.raises(DataError, match=r"photos, from where .* is gone"):
        ImageNet().load("test", 16)
