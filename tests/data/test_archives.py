import dataclasses
import hashlib
import io
import re
import shutil
import stat
import tarfile
import zipfile
from contextlib import suppress
from functools import partial
from pathlib import Path

import pooch
import pytest
from archives import write_archive

from datastill.cli import main
from datastill.core.errors import ChecksumError, DataError
from datastill.data.archives import (
    Archive,
    extract,
    extract_atomically,
    find_archives,
    open_archives,
)
from datastill.data.cifar100 import Cifar100

Archives = tuple[Archive, ...]
find_cifar = partial(find_archives, "", Cifar100.archives)
extracts_tar = pytest.mark.skipif(
    not hasattr(tarfile, "data_filter"), reason="tar archives need Python 3.11.4"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The parent of an extracted archive."""
    write_archive("cifar100", tmp_path / "extracted")
    return tmp_path / "extracted"


@pytest.fixture
def packed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A .tar.gz of the miniature, taken for the official one."""
    file = tmp_path / "packed" / "cifar-100-binary.tar.gz"
    file.parent.mkdir()
    with tarfile.open(file, "w:gz") as tar:
        tar.add(folder / "cifar-100-binary", "cifar-100-binary")
    md5 = hashlib.md5(file.read_bytes()).hexdigest()
    official = dataclasses.replace(Cifar100.archives[0], md5=md5, url=_dead(file.name))
    monkeypatch.setattr(Cifar100, "archives", (official,))
    return file


def _dead(file: str) -> str:
    return f"http://127.0.0.1:9/{file}"


@extracts_tar
def test_find_archive__packed_or_extracted_in_any_place_gives_the_same_images(
    packed: Path, folder: Path, cache: Path
) -> None:
    (cache / "downloads").mkdir(parents=True)
    shutil.copy(packed, cache / "downloads")
    places = (None, folder, folder / "cifar-100-binary", packed.parent, packed)
    assert len({Cifar100().load("train", None, place).fingerprint for place in places}) == 1
    assert list(packed.parent.iterdir()) == [packed]  # nothing is written beside it


def test_open_archive__foreign_bytes_are_refused(packed: Path) -> None:
    packed.write_bytes(packed.read_bytes() + b"!")
    with pytest.raises(ChecksumError, match=r"download .* again"):
        Cifar100().load("test", None, packed.parent)


def test_find_archive__incomplete_folder_names_what_is_missing(folder: Path) -> None:
    (folder / "cifar-100-binary" / "test.bin").unlink()
    with pytest.raises(DataError, match=r"lacks test\.bin"):
        find_cifar(folder)


def test_extract__zip_member_stays_in_the_folder(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as pack:
        for member in ("../outside.txt", f"{tmp_path}/outside.txt", "link/outside.txt"):
            pack.writestr(member, "x")
        pack.writestr(link, "..")
    with suppress(DataError):  # a link that is a file can hold no other
        extract(tmp_path / "bad.zip", tmp_path / "folder" / "into")
    assert (
        not (tmp_path / "outside.txt").exists() and not (tmp_path / "folder/outside.txt").exists()
    )
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


@extracts_tar
@pytest.mark.parametrize("place", ["../../outside", "/etc/hostname"])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_extract__tar_member_or_link_that_leaves_the_folder_is_refused(
    tmp_path: Path, kind: bytes, place: str
) -> None:
    name = f"../{place}" if kind == tarfile.REGTYPE else "folder/link"
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, place
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        tar.addfile(member, io.BytesIO())
    with pytest.raises(
        DataError, match=r"bad\.tar is refused: .*(outside|link).*download it again"
    ):
        extract(tmp_path / "bad.tar", tmp_path / "a" / "b" / "c" / "into")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".tar"]


@pytest.fixture
def without_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.11.0 to 3.11.3: tarfile has neither filters nor their errors."""
    for name in ("data_filter", "tar_filter", "fully_trusted_filter", "FilterError"):
        monkeypatch.delattr(tarfile, name, raising=False)


@pytest.mark.usefixtures("without_filters")
def test_extract__python_without_filters_refuses_tar_archives(
    packed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(packed.parent.iterdir())
    line = ["data", "prepare", "cifar100", "--data-root", str(packed.parent)]
    assert main(line) == 2
    assert re.search(
        r"is not extracted: Python 3\.\d+\.\d+ cannot .*; use Python 3\.11\.4 or newer, or",
        capsys.readouterr().err,
    )
    assert sorted(packed.parent.iterdir()) == before


@pytest.mark.usefixtures("without_filters")
def test_extract__python_without_filters_extracts_zip_archives(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as pack:
        pack.writestr("a.txt", "x")
    extract(tmp_path / "a.zip", tmp_path / "into")
    assert (tmp_path / "into" / "a.txt").read_text() == "x"
    (tmp_path / "bad.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:-30])
    with pytest.raises(DataError, match="cannot be extracted"):
        extract(tmp_path / "bad.zip", tmp_path / "into")


def test_open_archive__archive_without_its_files_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w") as pack:
        pack.writestr("a/other.txt", "x")
    md5 = hashlib.md5(file.read_bytes()).hexdigest()
    archive = Archive(_dead("a.zip"), md5=md5, folder="a", files=("wanted.txt",))
    with pytest.raises(DataError, match=r"lacks wanted\.txt"):
        open_archives([archive], find_archives("", [archive], tmp_path))


@pytest.fixture
def collection(tmp_path: Path) -> Archives:
    """A tar file and a plain file, both in place."""
    root = tmp_path / "collection"
    (root / "pictures").mkdir(parents=True)
    (root / "pictures" / "a.txt").write_text("a")
    (root / "labels.txt").write_text("1")
    with tarfile.open(root / "pictures.tar", "w") as tar:
        tar.add(root / "pictures", "pictures")
    md5 = hashlib.md5((root / "pictures.tar").read_bytes()).hexdigest()
    pictures = Archive(_dead("pictures.tar"), md5, "", ("pictures",))
    return pictures, Archive(_dead("labels.txt"), "0" * 32, "", ("labels.txt",))


@extracts_tar
def test_collection__is_found_in_any_place_and_packed_parts_are_extracted(
    collection: Archives, tmp_path: Path, cache: Path
) -> None:
    root = tmp_path / "collection"
    for place in (tmp_path, root, root / "labels.txt"):
        assert find_archives("collection", collection, place).path == root
    shutil.rmtree(root / "pictures")
    folders = open_archives(collection, find_archives("collection", collection, tmp_path))
    assert (folders[0] / "pictures" / "a.txt").read_text() == "a"
    assert folders[0].is_relative_to(cache) and folders[1] == root
    (cache / "downloads").mkdir()
    root.rename(cache / "downloads" / "collection")
    assert find_archives("collection", collection, None).path == cache / "downloads" / "collection"


def test_collection__change_and_loss_of_any_part_are_noticed(
    collection: Archives, tmp_path: Path
) -> None:
    before, labels = find_archives("collection", collection, tmp_path), "collection/labels.txt"
    (tmp_path / labels).write_text("12")
    assert find_archives("collection", collection, tmp_path) != before
    (tmp_path / labels).unlink()
    with pytest.raises(DataError, match=r"labels\.txt, .* is gone; say with --data-root"):
        open_archives(collection, before)


def test_collection__only_missing_parts_are_downloaded(
    collection: Archives, tmp_path: Path, monkeypatch
) -> None:
    asked = []

    def fetched(url: str, known_hash: str, *, fname: str, path: Path, downloader: object) -> str:
        asked.append(fname)
        (Path(path) / fname).write_text("1")
        return str(Path(path) / fname)

    (tmp_path / "collection" / "labels.txt").unlink()
    monkeypatch.setattr(pooch, "retrieve", fetched)
    find_archives("collection", collection, tmp_path)
    assert asked == ["labels.txt"]


@pytest.mark.parametrize("packed_as", ["a.zip", pytest.param("a.tar.gz", marks=extracts_tar)])
def test_extract_atomically__truncated_archive_leaves_nothing(
    tmp_path: Path, packed_as: str
) -> None:
    (tmp_path / "a").mkdir()
    for i in range(20):
        (tmp_path / "a" / str(i)).write_bytes(bytes([i]) * 5000)
    file = tmp_path / packed_as
    shutil.make_archive(
        str(tmp_path / "a"), "zip" if file.suffix == ".zip" else "gztar", tmp_path, "a"
    )
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    (tmp_path / "into").mkdir()
    with pytest.raises(DataError, match=rf"{packed_as} cannot be extracted: .*download it again"):
        extract_atomically(file, tmp_path / "into" / "a")
    assert list((tmp_path / "into").iterdir()) == []
