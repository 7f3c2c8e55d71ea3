"""The cache: decoded images as memory-mapped .npy files, each split with a manifest beside it.

`<cache>/prepared/<key>/<image size>/` holds, for every split, `train.images.npy`,
`train.labels.npy` (where there are labels) and `train.json`. The manifest is written last and
says what the files must be, with the SHA-256 of each and of itself, checked at every reading: a
changed file is an error, an unfinished split is as good as absent.

Images that are being written grow chunk by chunk in a hidden `.part` file, whose name has a digest
of what they are read from, so that a killed process is continued. The chunk that was written last
may not have reached the disk and is written once more.
"""

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datastill.core.atomic import atomic_write, sha256, write_json
from datastill.core.errors import ChecksumError, DataError
from datastill.core.locks import file_lock
from datastill.core.options import Json
from datastill.core.progress import logger, progress_bar
from datastill.images import Normalizer

FORMAT = 2  # raise it when images are decoded or resized differently: old caches are then stale
CHUNK_BYTES = 1 << 26  # 64 MiB: 5,461 images of 64 x 64, 445 of 224 x 224

Bytes = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class LazyImages:
    """Images that are read in parts, when they are cached: all at once need not fit into memory.

    Reading a part again, in this process or another, must give the same bytes.
    """

    shape: tuple[int, int, int, int]  # (N, C, H, W)
    read: Callable[[int, int], Bytes]  # start, stop -> (stop - start, C, H, W)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Bytes:
        """Return the images of a range, such as images[100:200]."""
        start, stop, _ = rows.indices(len(self))
        return self.read(start, stop)


@dataclass(frozen=True)
class RawImages:
    """One split, resized."""

    images: Bytes | LazyImages  # (N, C, H, W)
    labels: Labels | None = None  # (N,) in [0, K)
    classes: tuple[str, ...] = ()  # K names in label order
    warnings: tuple[str, ...] = ()  # repeated whenever the split is loaded, also from the cache

    def check(self, name: str) -> None:
        """Refuse what cannot be a split; `name` is for the message.

        Raises:
            DataError: nothing was read, or labels do not fit the images or the classes.
        """
        if not len(self.images):
            raise DataError(f"{name}: there is not a single image")
        if self.labels is None:
            return
        if len(self.labels) != len(self.images):
            raise DataError(f"{name}: {len(self.images)} images but {len(self.labels)} labels")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= len(self.classes):
            raise DataError(
                f"{name}: labels run from {low} to {high}, but there are"
                f" {len(self.classes)} classes"
            )


@dataclass(frozen=True)
class DataLocation:
    """Where the images of a source lie on this machine, and what would change if they did.

    `facts` are cheap to gather (sizes and times, no contents) and go into the cache's manifest:
    a cache whose facts differ from the present ones is stale.
    """

    path: Path
    facts: Json
    splits: tuple[str, ...] = ("train", "test")
    valid_without_source: bool = False  # may the cache be used after `path` was deleted?

    def to_json(self) -> Json:
        """Return the location as it is written into the manifest."""
        return {
            "path": str(self.path),
            "facts": self.facts,
            "splits": list(self.splits),
            "outlives": self.valid_without_source,
        }


EMBEDDED = DataLocation(Path(), {})  # of a source that needs no files and no cache


def file_signature(path: Path) -> Json:
    """Return size in bytes and time of change in nanoseconds of a file.

    Of a folder: when files were last added or removed in it or two levels below it. Looking at
    every one of 100,000 files at each start would take longer than reading the cache.
    """
    if path.is_file():
        status = path.stat()
        return {"bytes": status.st_size, "changed_ns": status.st_mtime_ns}
    folders = [path, *path.glob("*/"), *path.glob("*/*/")]
    return {"changed_ns": max(folder.stat().st_mtime_ns for folder in folders)}


def cache_folder() -> Path:
    """Return the folder named by DATASTILL_CACHE, else ~/.cache/datastill; not created here.

    Raises:
        DataError: the user has no home folder.
    """
    try:
        return Path(os.environ.get("DATASTILL_CACHE") or "~/.cache/datastill").expanduser()
    except RuntimeError as error:
        raise DataError(f"there is no cache folder ({error}); set DATASTILL_CACHE") from error


@dataclass(frozen=True)
class Prepared:
    """One split of one source at one size, on disk or about to be."""

    folder: Path
    split: str

    @property
    def path(self) -> Path:
        """The file with the images."""
        return self._file("images")

    @property
    def phase(self) -> str:
        """What log lines call the preparation."""
        return f"prepare {self.folder.parent.name}/{self.split}"

    def lock(self) -> AbstractContextManager[None]:
        """Keep other processes from preparing the same split meanwhile."""
        return file_lock(self.folder / f".{self.split}.lock", self.phase)

    def write(self, raw: RawImages, location: DataLocation) -> None:
        """Write images, labels and, last, the manifest; continue what a killed process left.

        Raises:
            DataError: An image cannot be read, or the disk is full.
        """
        shape = raw.images.shape
        key = repr((FORMAT, tuple(shape), location.to_json())).encode()
        digest = hashlib.sha256(key).hexdigest()[:8]
        part = self.folder / f".{self.split}.images.{digest}.part"
        for stale in set(self.folder.glob(f".{self.split}.images.*.part")) - {part}:
            stale.unlink(missing_ok=True)
        append_resumable(part, raw.images, self.phase)
        normalizer, digest = measure(part, shape)
        part.replace(self.path)
        digests = {"images": digest}
        if raw.labels is not None:
            file = self._file("labels")
            with atomic_write(file) as target, target.open("wb") as opened:
                np.save(opened, raw.labels)
            digests["labels"] = sha256(file)
        manifest: Json = {
            "format": FORMAT,
            "files": {
                name: {"bytes": self._file(name).stat().st_size, "sha256": digest}
                for name, digest in digests.items()
            },
            "classes": list(raw.classes),
            "normalizer": normalizer.statistics,
            "origin": location.to_json(),
            "warnings": list(raw.warnings),
        }
        write_json(self.folder / f"{self.split}.json", {**manifest, "sha256": _digest(manifest)})

    def location(self) -> DataLocation | None:
        """Return where the cached split was read from; None if nothing usable is cached."""
        if (manifest := self._manifest()) is None:
            return None
        origin = manifest["origin"]
        path, splits = Path(origin["path"]), tuple(origin["splits"])
        return DataLocation(path, origin["facts"], splits, origin["outlives"])

    def read(self, location: DataLocation) -> tuple[RawImages, Normalizer] | None:
        """Return the cached split, memory-mapped, and its own statistics.

        None if it is absent, unfinished or not of today's `location`.

        Raises:
            ChecksumError: A file has changed since it was written.
        """
        manifest = self._manifest()
        if manifest is None or manifest["origin"] != location.to_json():
            return None
        for name, expected in manifest["files"].items():
            file = self._file(name)
            if not file.is_file() or file.stat().st_size != expected["bytes"]:
                return None
        self.verify()
        # copy-on-write: torch warns of arrays that it must not write to
        arrays = {
            name: np.asarray(np.load(self._file(name), mmap_mode="c", allow_pickle=False))
            for name in manifest["files"]
        }
        texts = (tuple(manifest[name]) for name in ("classes", "warnings"))
        raw = RawImages(arrays["images"], arrays.get("labels"), *texts)
        return raw, Normalizer.from_statistics(manifest["normalizer"])

    def verify(self) -> dict[str, str]:
        """Compare every byte with the manifest; return the digests by file.

        Raises:
            DataError: Nothing is cached here.
            ChecksumError: A file has changed since it was written.
        """
        manifest = self._manifest()
        if manifest is None:
            raise DataError(f"{self.path} is not prepared; run 'datastill data prepare'")
        digests = {name: expected["sha256"] for name, expected in manifest["files"].items()}
        with progress_bar(f"verify {self.folder.parent.name}/{self.split}", 0, 1):
            for name, digest in digests.items():
                if sha256(self._file(name)) != digest:
                    raise ChecksumError(
                        f"{self._file(name)} has changed since it was written;"
                        " delete it and run 'datastill data prepare' again"
                    )
        return digests

    def _file(self, name: str) -> Path:
        return self.folder / f"{self.split}.{name}.npy"

    def _manifest(self) -> Json | None:
        try:
            manifest: Json = json.loads((self.folder / f"{self.split}.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            return None
        return manifest if manifest.pop("sha256", "absent") == _digest(manifest) else None


def append_resumable(file: Path, images: Bytes | LazyImages, phase: str) -> None:
    """Append the images that `file` lacks, reading each chunk just before it is written.

    Raises:
        DataError: an image cannot be read, or the disk is full; what was written is kept.
    """
    header, row = _npy_header(images.shape), prod(images.shape[1:])
    chunk = _chunk_length(images.shape)
    try:
        with file.open("ab") as opened:
            complete_chunks = (opened.tell() - len(header)) // (row * chunk)
            done = max(0, complete_chunks - 1) * chunk
            opened.truncate(len(header) + done * row if done else 0)
            if done:
                logger.info(f"{phase}: continuing after {done} of {len(images)} images")
            else:
                opened.write(header)
            with progress_bar(phase, done, len(images)) as reporter:
                for start in range(done, len(images), chunk):
                    part = np.ascontiguousarray(images[start : start + chunk])
                    opened.write(part.data)
                    opened.flush()
                    os.fsync(opened.fileno())
                    if reporter.due():
                        reporter.update(start + len(part), {})
    except OSError as error:
        raise DataError(f"{file} cannot be written: {error.strerror or error}") from error


def measure(file: Path, shape: tuple[int, ...]) -> tuple[Normalizer, str]:
    """Return statistics and SHA-256 of a finished file with images of `shape`, in one pass."""
    digest = hashlib.sha256()

    def blocks() -> Iterator[Tensor]:
        with file.open("rb") as opened:
            digest.update(opened.read(len(_npy_header(shape))))
            length = _chunk_length(shape) * prod(shape[1:])
            while (block := np.fromfile(opened, np.uint8, length)).size:
                digest.update(block.data)
                yield torch.from_numpy(block).view(-1, *shape[1:])

    with progress_bar(f"measure {file.parent.parent.name}", 0, 1):
        return Normalizer.of_blocks(blocks()), digest.hexdigest()


def _chunk_length(shape: tuple[int, ...]) -> int:
    """Return the number of images that are read and written together."""
    return max(1, CHUNK_BYTES // prod(shape[1:]))


def _npy_header(shape: tuple[int, ...]) -> bytes:
    header = io.BytesIO()
    array = {"descr": "|u1", "fortran_order": False, "shape": tuple(map(int, shape))}
    np.lib.format.write_array_header_1_0(header, array)
    return header.getvalue()


def _digest(manifest: Json) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
