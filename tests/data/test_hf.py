"""hf:NAME on data sets made here: class folders, parquet files, saved tables; never the network."""

import importlib
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from archives import random_images, write_archive
from PIL import Image

from datastill.core.errors import ConfigError, DataError, DataWarning
from datastill.data import hf
from datastill.data.check import prepare
from datastill.data.folder import ImageFolderSource
from datastill.data.hf import Hf
from datastill.data.source import source

datasets = pytest.importorskip("datasets")


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(file, "PNG")
    return file.getvalue()


def table(count: int, seed: int, **columns: tuple[Any, list]) -> Any:
    """Lossless random images in the column `picture`, and what else is asked for."""
    pictures = [{"bytes": png(image), "path": None} for image in random_images(count, 8, seed=seed)]
    return rows_of(picture=(datasets.Image(), pictures), **columns)


def rows_of(**columns: tuple[Any, list]) -> Any:
    features = datasets.Features({name: kind for name, (kind, _) in columns.items()})
    values = {name: given for name, (_, given) in columns.items()}
    return datasets.Dataset.from_dict(values, features=features)


def kinds(*labels: int | None) -> tuple[Any, list]:
    return datasets.ClassLabel(names=["ash", "birch", "cedar"]), list(labels)


def saved(root: Path, **splits: Any) -> str:
    datasets.DatasetDict(splits).save_to_disk(str(root))
    return f"hf:{root}"


def test_hf__class_folders_are_read_as_folder_does(tmp_path: Path) -> None:
    write_archive("hf", tmp_path / "photos")
    for split in ("train", "test"):
        ours = source(f"hf:{tmp_path / 'photos'}").load(split, 16)
        theirs = ImageFolderSource(str(tmp_path / "photos")).load(split, 16)
        assert ours.classes == theirs.classes
        assert {bytes(i.numpy()) for i in ours.images} == {bytes(i.numpy()) for i in theirs.images}
        assert ours.labels.bincount().tolist() == theirs.labels.bincount().tolist()


def test_hf__saved_images_labels_and_names_are_kept(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(hf, "CHUNK", 2)
    name = saved(
        tmp_path / "trees",
        train=table(5, 0, kind=kinds(2, 0, 1, 1, 2)),
        test=table(3, 1, kind=kinds(0, 1, 2)),
    )
    train = source(name).load("train", 8)
    assert torch.equal(train.images, torch.from_numpy(random_images(5, 8, seed=0)))
    assert train.labels.tolist() == [2, 0, 1, 1, 2]
    assert train.classes == ("ash", "birch", "cedar")
    assert train.name == "hf:trees/train"


def test_hf__parquet_files_and_one_saved_table_are_read_offline(tmp_path: Path) -> None:
    rows = {"train": table(4, 0, kind=kinds(0, 1, 2, 0)), "test": table(3, 1, kind=kinds(0, 1, 2))}
    (tmp_path / "trees").mkdir()
    for split, part in rows.items():
        part.to_parquet(str(tmp_path / "trees" / f"{split}.parquet"))
    assert source(f"hf:{tmp_path / 'trees'}").load("test", 8).labels.tolist() == [0, 1, 2]
    rows["train"].save_to_disk(str(tmp_path / "alone"))  # the training split
    assert len(source(f"hf:{tmp_path / 'alone'}").load("train", 8)) == 4


@pytest.mark.parametrize(
    ("withheld", "reason"), [(False, "which has no test split"), (True, "whose test .*no labels")]
)
def test_hf__validation_is_taken_where_there_is_no_labelled_test_split(
    tmp_path: Path, withheld: bool, reason: str
) -> None:
    splits = {
        "train": table(3, 0, kind=kinds(0, 1, 2)),
        "validation": table(2, 1, kind=kinds(1, 1)),
    }
    if withheld:
        splits["test"] = table(2, 2, kind=kinds(None, None))
    name = saved(tmp_path / "trees", **splits)
    with pytest.warns(DataWarning, match=rf"{reason}, is tested on its split validation"):
        assert source(name).load("test", 8).labels.tolist() == [1, 1]


def test_hf__images_without_labels_are_a_source(tmp_path: Path) -> None:
    name = saved(
        tmp_path / "trees", train=table(4, 0, note=(datasets.Value("string"), list("abcd")))
    )
    assert source(name).load("train", 8).labels is None
    assert prepare(source(name), 8).keys() == {"train"}


def test_hf__two_label_columns_are_asked_about(tmp_path: Path) -> None:
    rows = table(3, 0, fine=kinds(0, 1, 2), coarse=kinds(1, 1, 1))
    name = saved(tmp_path / "trees", train=rows, test=rows)
    with pytest.raises(DataError, match=r"fine or coarse\? .*label=fine; .*picture \(Image\)"):
        source(name).load("train", 8)
    assert source(f"{name}?label=coarse").load("train", 8).labels.tolist() == [1, 1, 1]


def test_hf__what_cannot_be_read_is_said(tmp_path: Path) -> None:
    notes = (datasets.Value("string"), ["a", "b"])
    words = saved(tmp_path / "words", train=rows_of(text=notes))
    trees = saved(tmp_path / "trees", train=table(2, 0, note=notes))
    other = saved(tmp_path / "other", test=table(2, 0), extra=table(2, 1))
    faults = {
        "hf": r"Write hf:NAME",
        words: r"no image column, only text \(Value\)",
        f"{trees}?label=note": r"label=note is no ClassLabel .*note \(Value\)",
        f"{trees}?label=none": r"label=none is no ClassLabel",
        f"{trees}?labels=fine": r"after \? come config=, image=, label=",
        f"{trees}?fine": r"after \? come config=",
        other: "hf:other has no split train, only test, extra",
    }
    for name, message in faults.items():
        with pytest.raises((DataError, ConfigError), match=message):
            source(name).load("train", 8)


def test_hf__damaged_image_is_named_by_its_row(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(hf, "CHUNK", 2)
    pictures = [{"bytes": png(image), "path": None} for image in random_images(3, 8)]
    pictures.append({"bytes": b"no picture", "path": None})
    rows = rows_of(picture=(datasets.Image(), pictures))
    with pytest.raises(DataError, match="row 3 of column picture is no readable image"):
        source(saved(tmp_path / "trees", train=rows)).load("train", 8)


def test_hf__name_that_cannot_be_loaded_is_named(monkeypatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise FileNotFoundError("no such data set")

    monkeypatch.setattr(datasets, "load_dataset", unknown)
    with pytest.raises(DataError, match=r"hf:a/b cannot be loaded .*no such data set.*is it"):
        source("hf:a/b").load("train", 8)


def test_hf__prepared_hub_data_need_no_network(monkeypatch) -> None:
    hub = {"train": table(3, 0, kind=kinds(0, 1, 2)), "test": table(3, 1, kind=kinds(0, 1, 2))}
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.DatasetDict(hub))
    prepare(source("hf:a/b"), 8)
    monkeypatch.setattr(datasets, "load_dataset", None)
    assert source("hf:a/b").load("test", 8).labels.tolist() == [0, 1, 2]


def test_hf__changed_folder_is_read_again(tmp_path: Path) -> None:
    name = saved(tmp_path / "trees", train=table(3, 0))
    assert len(source(name).load("train", 8)) == 3
    shutil.rmtree(tmp_path / "trees")
    saved(tmp_path / "trees", train=table(4, 0))
    assert len(source(name).load("train", 8)) == 4


def test_hf__missing_package_names_the_extra(tmp_path: Path, monkeypatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(DataError, match=r"pip install 'datastill\[hf\]'"):
        Hf()._find(tmp_path)
