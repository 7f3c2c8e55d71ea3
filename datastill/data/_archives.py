"""Official archives: found on this machine, checked, opened safely; downloaded when missing."""

import os
import shutil
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path

import pooch

from datastill.data._cache_folder import cache_folder
from datastill.data._raw import Origin, stamp
from datastill.ground.errors import ChecksumError, DataError

DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError)


@dataclass(frozen=True)
class Archive:
    """One published file and the folder it holds."""

    url: str
    md5: str  # of the archive file, 32 hexadecimal digits
    folder: str  # the archive's top folder
    files: tuple[str, ...]  # files and folders in it that the reader needs

    @property
    def file(self) -> str:
        """The archive's file name."""
        return self.url.rpartition("/")[2]


def find_archive(archive: Archive, data_root: Path | None) -> Origin:
    """Find the extracted folder, else the archive file, else download the file.

    `data_root` may be the extracted folder, the archive file, or the folder that holds either;
    by default it is the cache's `downloads`.

    Raises:
        DataError: there is no such folder, or it is incomplete, or the download failed.
        ChecksumError: the downloaded file is not the published one.
    """
    root = cache_folder() / "downloads" if data_root is None else data_root.expanduser()
    if data_root is not None and not root.exists():
        raise DataError(f"data root {root} does not exist; it should hold {_wanted(archive)}")
    for folder in (root, root / archive.folder):
        if _is_extracted(archive, folder):
            return _origin(folder, archive.files)
    if (root / archive.folder).is_dir():
        raise DataError(_incomplete(archive, root / archive.folder))
    if root.is_file():
        return _origin(root)
    file = root / archive.file
    return _origin(file if file.is_file() else _download(archive, root))


def open_archive(archive: Archive, origin: Origin | None) -> Path:
    """The folder with the files; an archive file is checked and extracted into the cache once.

    Raises:
        ChecksumError: the archive file is not the published one.
        DataError: it is gone, cannot be extracted, or lacks what the reader needs.
    """
    assert origin is not None, archive  # only embedded sources have none
    if origin.path.is_dir():
        return origin.path
    if not origin.path.is_file():
        raise DataError(
            f"{origin.path}, from where this was prepared, is gone;"
            f" say with --data-root where {_wanted(archive)} is now"
        )
    key = sha256(repr((str(origin.path), origin.facts)).encode()).hexdigest()[:8]
    target = cache_folder() / "extracted" / f"{archive.folder}-{key}"
    if not target.is_dir():
        _check_md5(archive, origin.path)
        _extract_whole(origin.path, target)
    folder = target / archive.folder
    if not _is_extracted(archive, folder):
        raise DataError(_incomplete(archive, folder))
    return folder


def extract(file: Path, into: Path) -> None:
    """Extract a tar or zip file; members that would land outside `into` are refused.

    Raises:
        DataError: the file is damaged, or a member leaves the folder.
    """
    try:
        if zipfile.is_zipfile(file):
            _extract_zip(file, into)
        else:
            with tarfile.open(file) as tar:
                tar.extractall(into, filter="data")
    except DAMAGED as error:
        raise DataError(f"{file} cannot be extracted: {error}") from error


def _extract_zip(file: Path, into: Path) -> None:
    with zipfile.ZipFile(file) as pack:
        for name in pack.namelist():
            if not (into / name).resolve().is_relative_to(into.resolve()):
                raise DataError(f"{file} is refused: its member {name!r} leaves the folder")
        pack.extractall(into)


def _extract_whole(file: Path, target: Path) -> None:
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


def _check_md5(archive: Archive, file: Path) -> None:
    with file.open("rb") as opened:
        found = file_digest(opened, "md5").hexdigest()
    if found != archive.md5:
        raise ChecksumError(
            f"{file} has md5 {found}, the published file has {archive.md5};"
            f" download {archive.url} again"
        )


def _download(archive: Archive, root: Path) -> Path:
    try:
        path = pooch.retrieve(
            archive.url, f"md5:{archive.md5}", fname=archive.file, path=root, progressbar=False
        )
    except ValueError as error:
        raise ChecksumError(f"{archive.url} is no longer the published file: {error}") from error
    except OSError as error:
        raise DataError(
            f"{_wanted(archive)} was looked for in {root} and could not be downloaded"
            f" ({type(error).__name__}); put it there by hand (from {archive.url}),"
            " or say with --data-root where it is"
        ) from error
    return Path(path)


def _origin(path: Path, parts: tuple[str, ...] = ()) -> Origin:
    path = path.resolve()
    stamps = {part: stamp(path / part) for part in parts} or {path.name: stamp(path)}
    return Origin(path, stamps, outlives=True)


def _is_extracted(archive: Archive, folder: Path) -> bool:
    return all((folder / file).exists() for file in archive.files)


def _wanted(archive: Archive) -> str:
    return f"{archive.file} or the folder {archive.folder}"


def _incomplete(archive: Archive, folder: Path) -> str:
    missing = [file for file in archive.files if not (folder / file).exists()]
    return f"{folder} lacks {', '.join(missing)}; extract {archive.file} again"
