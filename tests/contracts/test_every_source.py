"""What every file of datastill/data promises, on a small archive of its layout."""

import os
from pathlib import Path

import pytest
import torch
from archives import EMBEDDED, write_archive

from datastill.core.errors import ConfigError, DataError
from datastill.core.lookup import find, names
from datastill.data.check import check, prepare
from datastill.data.source import ImageSource
from datastill.images import ImageSet, Normalizer

SIZES = (16, 20)
ALL = names("datastill.data")
EXTRAS = {"hf": "datasets"}  # sources that need more than datastill does


class Fixture:
    """A source and the folder with its small archive."""

    def __init__(self, name: str, root: Path):
        self.source: ImageSource = find("datastill.data", name)()
        self.root = root
        if name not in EMBEDDED:
            write_archive(name, root)

    def load(self, split: str = "train", image_size: int = 16) -> ImageSet:
        return self.source.load(split, image_size, self.root)

    def files(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*") if path.is_file())


@pytest.fixture(params=ALL)
def fixture(request: pytest.FixtureRequest, tmp_path: Path) -> Fixture:
    if extra := EXTRAS.get(request.param):
        pytest.importorskip(extra)
    (tmp_path / "official").mkdir()
    return Fixture(request.param, tmp_path / "official")


@pytest.fixture
def on_disk(fixture: Fixture) -> Fixture:
    if not fixture.files():
        pytest.skip("embedded: nothing on disk, nothing cached")
    return fixture


@pytest.mark.parametrize("image_size", SIZES)
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_source__gives_images_of_the_size_asked_for(
    fixture: Fixture, split: str, image_size: int
) -> None:
    images = fixture.load(split, image_size)
    shape = (fixture.source.channels, image_size, image_size)
    assert images.images.dtype == torch.uint8
    assert images.images.shape[1:] == shape
    assert len(images) >= 6


def test_every_source__native_size_is_the_default(fixture: Fixture) -> None:
    if fixture.source.native_size is None:
        with pytest.raises(DataError, match="--image-size"):
            fixture.source.load("train", None, fixture.root)
        return
    images = fixture.source.load("test", None, fixture.root)
    assert images.image_size == fixture.source.native_size


def test_every_source__labels_name_classes(fixture: Fixture) -> None:
    assert fixture.load("train").classes == fixture.load("test").classes
    for split in fixture.source.splits:
        images = fixture.load(split)
        if not fixture.source.labelled:
            assert images.labels is None
            continue
        assert images.labels is not None
        assert images.labels.dtype == torch.int64
        assert 0 <= images.labels.min() <= images.labels.max() < len(images.classes)


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_source__normalizer_is_that_of_the_training_images(
    fixture: Fixture, split: str
) -> None:
    assert fixture.load(split).normalizer == Normalizer.of(fixture.load("train").images)


def test_every_source__splits_differ(fixture: Fixture) -> None:
    assert fixture.load("train").fingerprint != fixture.load("test").fingerprint


def test_every_source__is_deterministic(fixture: Fixture, monkeypatch, tmp_path: Path) -> None:
    first = fixture.load("test").fingerprint
    monkeypatch.setenv("DATASTILL_CACHE", str(tmp_path / "another-cache"))
    assert fixture.load("test").fingerprint == first


def test_every_source__has_name_licence_and_citation(fixture: Fixture) -> None:
    assert fixture.load("test").name == f"{fixture.source.name}/test"
    assert fixture.source.licence and fixture.source.citation


def test_every_source__unknown_split_and_size_zero_are_refused(fixture: Fixture) -> None:
    with pytest.raises(DataError, match="no split 'validation', only train, test"):
        fixture.load("validation")
    with pytest.raises(ConfigError, match="image_size=0"):
        fixture.load("train", 0)


def test_every_source__prepare_and_check_report_every_split(fixture: Fixture) -> None:
    counts = {split: len(fixture.load(split)) for split in fixture.source.splits}
    prepared = prepare(fixture.source, 16, fixture.root)
    assert {split: len(images) for split, images in prepared.items()} == counts
    report = check(fixture.source, 16, fixture.root)
    assert {split: facts["count"] for split, facts in report["splits"].items()} == counts


def test_every_source__cache_is_read_instead_of_the_files(on_disk: Fixture, monkeypatch) -> None:
    before = on_disk.load("test")
    monkeypatch.setattr(type(on_disk.source), "_read", None)
    after = on_disk.load("test")
    assert after.fingerprint == before.fingerprint
    assert after.normalizer == before.normalizer
    assert after.classes == before.classes


def test_every_source__cache_is_stale_when_files_change(on_disk: Fixture, monkeypatch) -> None:
    on_disk.load()
    for file in on_disk.files():
        os.utime(file, ns=(0, 0))
    monkeypatch.setattr(type(on_disk.source), "_read", _refuse)
    with pytest.raises(DataError, match="was read again"):
        on_disk.load()


def test_every_source__missing_files_are_asked_for(on_disk: Fixture, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        on_disk.source.load("train", 16, tmp_path / "nowhere")


def _refuse(*_: object) -> None:
    raise DataError("was read again")
