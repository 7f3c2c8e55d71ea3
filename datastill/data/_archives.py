"""Official archives: found on this machine or downloaded, checked, and extracted safely."""

import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path

import pooch

from datastill.core.errors import ChecksumError, DataError
from datastill.core.progress import ProgressBar, progress_bar
from datastill.data._raw import DataLocation, file_signature
from datastill.data.cache_folder import cache_folder

DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError)
PACKED = (".tar", ".tar.gz", ".tgz", ".zip")  # how archives' names end
MEGABYTE = 1_000_000
DOWNLOAD_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True)
class Archive:
    """One published file and the folder it holds; or a plain file, which is its own content."""

    url: str
    md5: str  # of the published file, 32 hexadecimal digits
    folder: str  # the archive's top folder; empty where its files lie at the top
    files: tuple[str, ...]  # files and folders in it that the reader needs

    @property
    def file(self) -> str:
        """The archive's file name."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Collection:
    """A data set that is published as several files, which belong into one folder."""

    folder: str  # what that folder is called
    parts: tuple[Archive, ...]  # each with its files at the top


def find_archive(archive: Archive, data_root: Path | None) -> DataLocation:
    """Find the extracted folder, else the archive file, else download the file.

    `data_root` may be the extracted folder, the archive file, or the folder that holds either;
    by default it is the cache's `downloads`.

    Raises:
        DataError: there is no such folder, it is incomplete or of another data set, or the
            download failed.
        ChecksumError: the downloaded file is not the published one.
    """
    root = _existing_root(data_root, describe_files(archive))
    if location := _find_here(archive, root):
        return location
    if archive.folder and (root / archive.folder).is_dir():
        missing = _missing_files(archive, root / archive.folder)
        raise DataError(f"{missing}; extract {archive.file} again")
    if data_root is not None:
        _refuse_other_data(root, describe_files(archive))
    return _location(_download(archive, root))


def open_archive(archive: Archive, location: DataLocation | None) -> Path:
    """The folder with the files; an archive file is checked and extracted into the cache once.

    Raises:
        ChecksumError: the archive file is not the published one.
        DataError: it is gone, cannot be extracted, or lacks what the reader needs.
    """
    assert location is not None, archive  # only embedded sources have none
    path = location.path
    if path.is_dir():
        return path
    if not path.is_file():
        raise DataError(_gone(path, describe_files(archive)))
    key = sha256(repr((str(path), location.facts)).encode()).hexdigest()[:8]
    target = cache_folder() / "extracted" / f"{archive.folder or archive.file}-{key}"
    if not target.is_dir():
        with path.open("rb") as opened:
            md5 = file_digest(opened, "md5").hexdigest()
        if md5 != archive.md5:
            raise ChecksumError(
                f"{path} has md5 {md5}, the published file has {archive.md5};"
                f" download {archive.url} again"
            )
        extract_atomically(path, target)
    folder = target / archive.folder
    if missing := _missing_files(archive, folder):
        raise DataError(f"{missing}; delete {target} to extract it again")
    return folder


def find_local(collection: Collection, data_root: Path | None) -> DataLocation | None:
    """Find all files of a collection, packed or extracted; None where one of them is missing.

    `data_root` may be the collection's folder, the folder that holds it, or one of its files;
    by default it is a folder of its own in the cache's `downloads`.

    Raises:
        DataError: there is no such folder.
    """
    root = _collection_root(collection, data_root)
    located = {part.file: _find_here(part, root) for part in collection.parts}
    facts = {file: location.facts for file, location in located.items() if location is not None}
    if len(facts) < len(located):
        return None
    return DataLocation(root.resolve(), facts, valid_without_source=True)


def find_collection(collection: Collection, data_root: Path | None) -> DataLocation:
    """Find all files of a collection as `find_local` does, and download what is missing.

    Raises:
        DataError: there is no such folder, it is of another data set, or a download failed.
        ChecksumError: a downloaded file is not the published one.
    """
    root = _collection_root(collection, data_root)
    missing = [part for part in collection.parts if _find_here(part, root) is None]
    if data_root is not None and len(missing) == len(collection.parts):
        _refuse_other_data(root, describe_files(*collection.parts))
    for part in missing:
        _download(part, root)
    location = find_local(collection, root)
    assert location is not None, collection
    return location


def open_collection(collection: Collection, location: DataLocation | None) -> list[Path]:
    """For every part, the folder with its files; archives are opened as `open_archive` does.

    Raises:
        ChecksumError: an archive file is not the published one.
        DataError: a part is gone, cannot be extracted, or lacks what the reader needs.
    """
    assert location is not None, collection  # only embedded sources have none
    folders = []
    for part in collection.parts:
        if (located := _find_here(part, location.path)) is None:
            raise DataError(_gone(location.path / part.file, describe_files(part)))
        folders.append(open_archive(part, located))
    return folders


def describe_files(*archives: Archive) -> str:
    """What to look for: each published file, or what is in it."""
    texts = []
    for archive in archives:
        if archive.folder:
            texts.append(f"{archive.file} or the folder {archive.folder}")
        elif archive.files == (archive.file,):
            texts.append(archive.file)
        else:
            texts.append(f"{archive.file} (or its {', '.join(archive.files)})")
    return ", ".join(texts)


def download(url: str, md5: str, file: Path) -> Path:
    """Fetch `url` to `file`, which appears once its bytes are the published ones.

    Raises:
        ValueError: the bytes are others.
        OSError: there is no connection, or the file cannot be written.
    """
    bar = _PoochProgress(f"download {file.name}, MB")
    fetch = pooch.HTTPDownloader(progressbar=bar, chunk_size=DOWNLOAD_CHUNK_BYTES)
    try:
        return Path(
            pooch.retrieve(url, f"md5:{md5}", fname=file.name, path=file.parent, downloader=fetch)
        )
    finally:
        bar.close()


class _PoochProgress:
    """The progress bar that pooch calls."""

    total = 0  # bytes; set by pooch when the answer comes

    def __init__(self, phase: str) -> None:
        self._phase, self._done = phase, 0
        self._open = ExitStack()
        self._reporter: ProgressBar | None = None

    def update(self, count: int) -> None:
        """Add `count` downloaded bytes."""
        if self._reporter is None:
            shown = progress_bar(self._phase, 0, self.total // MEGABYTE)
            self._reporter = self._open.enter_context(shown)
        self._done += count
        if self._reporter.due():
            self._reporter.update(self._done // MEGABYTE, {})

    def reset(self) -> None:
        """Count from zero: pooch is about to add the total."""
        self._done = 0

    def close(self) -> None:
        """End the bar."""
        self._open.close()


def extract_atomically(file: Path, target: Path) -> None:
    """Extract into a folder beside `target`, which gets its name when all of it is there.

    Raises:
        DataError: the file is damaged, a member leaves the folder, or nothing can be written.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True, exist_ok=True)
        extract(file, part)
        if not target.is_dir():  # another process may have been faster
            part.replace(target)
    except OSError as error:
        raise DataError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def extract(file: Path, into: Path) -> None:
    """Extract a tar or zip file; members and links that would lead out of `into` are refused.

    Raises:
        DataError: the file is damaged, or a member leaves the folder.
    """
    try:
        if not zipfile.is_zipfile(file):
            with tarfile.open(file) as tar:
                tar.extractall(into, filter="data")
            return
        with zipfile.ZipFile(file) as pack:
            for member in pack.infolist():
                inside = (into / member.filename).resolve().is_relative_to(into.resolve())
                if not inside or stat.S_ISLNK(member.external_attr >> 16):
                    raise DataError(
                        f"{file} is refused: its member {member.filename!r} leaves the folder;"
                        " it is not the published archive, download it again"
                    )
            pack.extractall(into)
    except tarfile.FilterError as error:
        raise DataError(
            f"{file} is refused: {error}; it is not the published archive, download it again"
        ) from error
    except DAMAGED as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        raise DataError(f"{file} cannot be extracted: {reason}; download it again") from error


def _existing_root(data_root: Path | None, wanted: str) -> Path:
    root = cache_folder() / "downloads" if data_root is None else data_root.expanduser()
    if data_root is not None and not root.exists():
        raise DataError(f"data root {root} does not exist; it should hold {wanted}")
    return root


def _collection_root(collection: Collection, data_root: Path | None) -> Path:
    wanted = f"{collection.folder} with {describe_files(*collection.parts)}"
    root = _existing_root(data_root, wanted)
    if root.is_file():
        return root.parent
    inner = root / collection.folder
    return inner if data_root is None or inner.is_dir() else root


def _find_here(archive: Archive, root: Path) -> DataLocation | None:
    """The extracted folder, else the archive file; None where there is neither."""
    for folder in (root, root / archive.folder):
        if not _missing_files(archive, folder):
            return _location(folder, archive.files)
    file = root if root.is_file() else root / archive.file
    return _location(file) if file.is_file() else None


def _location(path: Path, parts: tuple[str, ...] = ()) -> DataLocation:
    path = path.resolve()
    facts = {part: file_signature(path / part) for part in parts} or {
        path.name: file_signature(path)
    }
    return DataLocation(path, facts, valid_without_source=True)


def _download(archive: Archive, root: Path) -> Path:
    try:
        return download(archive.url, archive.md5, root / archive.file)
    except ValueError as error:
        raise ChecksumError(f"{archive.url} is no longer the published file: {error}") from error
    except OSError as error:
        raise DataError(
            f"{describe_files(archive)} was looked for in {root} and could not be downloaded"
            f" ({type(error).__name__}); put it there by hand (from {archive.url}),"
            " or say with --data-root where it is"
        ) from error


def _refuse_other_data(root: Path, wanted: str) -> None:
    """Refuse to download into a folder with loose files: it holds another data set."""
    names = (path.name for path in sorted(root.iterdir()) if path.is_file())
    loose = [name for name in names if not name.startswith(".") and not name.endswith(PACKED)]
    if loose:
        raise DataError(
            f"{root} lacks {wanted}, and {loose[0]} in it is of another data set;"
            " say with --data-root where the right one is (or will be downloaded to),"
            " or leave it out to download into the cache"
        )


def _missing_files(archive: Archive, folder: Path) -> str:
    """A sentence that names the needed files that a folder lacks; empty where there are none."""
    missing = [file for file in archive.files if not (folder / file).exists()]
    return f"{folder} lacks {', '.join(missing)}" if missing else ""


def _gone(path: Path, wanted: str) -> str:
    return (
        f"{path}, from where this was prepared, is gone; say with --data-root where {wanted} is now"
    )
