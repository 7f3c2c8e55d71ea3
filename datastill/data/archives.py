"""Official archives: found on this machine or downloaded, checked and extracted safely."""

import os
import platform
import shutil
import tarfile
import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import ClassVar

import pooch

from datastill.core.errors import ChecksumError, DataError
from datastill.core.options import Json
from datastill.core.progress import ProgressBar, progress_bar
from datastill.data.cache import DataLocation, RawImages, cache_folder, file_signature
from datastill.data.source import ImageSource

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


class ArchiveSource(ImageSource):
    """A data set that is published as archives.

    A subclass names its archives and defines `_read_archives`. Fewer images or classes than the
    official ones are accepted: `datastill data check` compares the counts.
    """

    archives: ClassVar[tuple[Archive, ...]]
    folder: ClassVar[str] = ""  # where several archives lie together; empty for a single one

    @abstractmethod
    def _read_archives(self, split: str, image_size: int, *roots: Path) -> RawImages:
        """Read one split; `roots` are the folders with the files of each archive."""

    def _find(self, data_root: Path | None) -> DataLocation:
        return find_archives(self.folder, self.archives, data_root)

    def _read(self, split: str, image_size: int, location: DataLocation) -> RawImages:
        return self._read_archives(split, image_size, *open_archives(self.archives, location))


def find_local(
    folder: str, archives: Sequence[Archive], data_root: Path | None
) -> DataLocation | None:
    """Find all archives, packed or extracted; None where one of them is missing.

    Args:
        folder: Where several archives lie together; empty for a single one.
        archives: What to find.
        data_root: The extracted folder, the archive file, or the folder that holds either. For
            several archives: `folder`, the folder that holds it, or a file in it. By default the
            cache's `downloads`.

    Raises:
        DataError: There is no such `data_root`.
    """
    root = _search_root(folder, archives, data_root)
    paths = [path for archive in archives if (path := _locate(archive, root))]
    if len(paths) < len(archives):
        return None
    signatures = [_signature(*pair) for pair in zip(archives, paths, strict=True)]
    if folder:
        facts = {a.file: signature for a, signature in zip(archives, signatures, strict=True)}
        return DataLocation(root.resolve(), facts, valid_without_source=True)
    return DataLocation(paths[0], signatures[0], valid_without_source=True)


def find_archives(folder: str, archives: Sequence[Archive], data_root: Path | None) -> DataLocation:
    """Find all archives as `find_local` does, and download those that are missing.

    Raises:
        DataError: There is no such `data_root`, it is incomplete or of another data set, or a
            download failed.
        ChecksumError: A downloaded file is not the published one.
    """
    root = _search_root(folder, archives, data_root)
    missing = [archive for archive in archives if _locate(archive, root) is None]
    for archive in missing:
        if archive.folder and (root / archive.folder).is_dir():
            lacking = _missing_files(archive, root / archive.folder)
            raise DataError(f"{lacking}; extract {archive.file} again")
    if data_root is not None and len(missing) == len(archives):
        _refuse_other_data(root, describe_files(*archives))
    for archive in missing:
        _download(archive, root)
    location = find_local(folder, archives, data_root)
    assert location is not None, archives
    return location


def open_archives(archives: Sequence[Archive], location: DataLocation) -> list[Path]:
    """Return the folder with the files of each archive, extracted into the cache where needed.

    Raises:
        ChecksumError: An archive file is not the published one.
        DataError: An archive is gone, cannot be extracted, or lacks what the reader needs.
    """
    folders = []
    for archive in archives:
        path = _locate(archive, location.path)
        if path is None:
            raise DataError(
                f"{describe_files(archive)}, from where this was prepared ({location.path}), is"
                " gone; say with --data-root where it is now"
            )
        folders.append(_extracted(archive, path) if path.is_file() else path)
    return folders


def _extracted(archive: Archive, path: Path) -> Path:
    """Check and extract an archive file into the cache, once; return the folder with its files."""
    key = sha256(repr((str(path), _signature(archive, path))).encode()).hexdigest()[:8]
    target = cache_folder() / "extracted" / f"{archive.folder or archive.file}-{key}"
    if not target.is_dir():
        with progress_bar(f"extract {path.name}", 0, 1), path.open("rb") as opened:
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


def describe_files(*archives: Archive) -> str:
    """List what to look for: each published file, or what is in it."""
    names = ((archive.file, archive.folder or " and ".join(archive.files)) for archive in archives)
    return ", ".join(" or ".join(dict.fromkeys(pair)) for pair in names)


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
    """Extract a tar or zip file; nothing is written outside of `into`.

    A tar file with members or links that would lead out of it is refused; of a zip file, Python
    itself leaves out what does (`..`, a leading slash) and writes links as plain files.

    Raises:
        DataError: the file is damaged, a member leaves the folder, or it is a tar file and this
            Python, 3.11.3 or older, cannot refuse such members.
    """
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as pack:
                pack.extractall(into)
        else:
            _extract_tar(file, into)
    except DAMAGED as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        raise DataError(f"{file} cannot be extracted: {reason}; download it again") from error


def _extract_tar(file: Path, into: Path) -> None:
    with tarfile.open(file) as tar:
        if not hasattr(tarfile, "data_filter"):
            raise DataError(
                f"{file} is not extracted: Python {platform.python_version()} cannot keep the"
                " members of a tar archive inside its folder; use Python 3.11.4 or newer, or"
                " extract it by hand and say with --data-root where it is"
            )
        try:
            tar.extractall(into, filter="data")
        except tarfile.FilterError as error:
            raise DataError(
                f"{file} is refused: {error}; it is not the published archive, download it again"
            ) from error


def _search_root(folder: str, archives: Sequence[Archive], data_root: Path | None) -> Path:
    """Return the folder (or archive file) in which archives are looked for."""
    root = cache_folder() / "downloads" if data_root is None else data_root.expanduser()
    if data_root is not None and not root.exists():
        inside = f"{folder} with " if folder else ""
        raise DataError(
            f"data root {root} does not exist; it should hold {inside}{describe_files(*archives)}"
        )
    if not folder:
        return root
    if root.is_file():
        return root.parent
    return root / folder if data_root is None or (root / folder).is_dir() else root


def _locate(archive: Archive, root: Path) -> Path | None:
    """Find the extracted folder, else the archive file; None where there is neither."""
    for folder in (root, root / archive.folder):
        if not _missing_files(archive, folder):
            return folder.resolve()
    file = root if root.is_file() else root / archive.file
    return file.resolve() if file.is_file() else None


def _signature(archive: Archive, path: Path) -> Json:
    """Return what changes when the files do."""
    if path.is_file():
        return {path.name: file_signature(path)}
    return {file: file_signature(path / file) for file in archive.files}


def _download(archive: Archive, root: Path) -> None:
    """Fetch an archive into a folder, where it appears once its bytes are the published ones."""
    bar = _PoochProgress(f"download {archive.file}, MB")
    fetch = pooch.HTTPDownloader(progressbar=bar, chunk_size=DOWNLOAD_CHUNK_BYTES)
    md5 = f"md5:{archive.md5}"
    try:
        pooch.retrieve(archive.url, md5, fname=archive.file, path=root, downloader=fetch)
    except ValueError as error:
        raise ChecksumError(f"{archive.url} is no longer the published file: {error}") from error
    except OSError as error:
        raise DataError(
            f"{describe_files(archive)} was looked for in {root} and could not be downloaded"
            f" ({type(error).__name__}); put it there by hand (from {archive.url}),"
            " or say with --data-root where it is"
        ) from error
    finally:
        bar.close()


def _refuse_other_data(root: Path, missing: str) -> None:
    """Refuse to download into a folder with loose files: it holds another data set."""
    names = (path.name for path in sorted(root.iterdir()) if path.is_file())
    loose = [name for name in names if not name.startswith(".") and not name.endswith(PACKED)]
    if loose:
        raise DataError(
            f"{root} lacks {missing}, and {loose[0]} in it is of another data set;"
            " say with --data-root where the right one is (or will be downloaded to),"
            " or leave it out to download into the cache"
        )


def _missing_files(archive: Archive, folder: Path) -> str:
    """Return a sentence that names the needed files that a folder lacks, or an empty text."""
    missing = [file for file in archive.files if not (folder / file).exists()]
    return f"{folder} lacks {', '.join(missing)}" if missing else ""
