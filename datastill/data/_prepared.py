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
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datastill.core.atomic import atomic_write, sha256, write_json
from datastill.core.errors import ChecksumError, DataError
from datastill.core.locks import file_lock
from datastill.core.options import Json
from datastill.core.progress import logger, progress_bar
from datastill.data._raw import Bytes, DataLocation, Labels, LazyImages, RawImages
from datastill.data.cache_folder import cache_folder
from datastill.images import Normalizer

FORMAT = 2  # raise it when images are decoded or resized differently: old caches are then stale
CHUNK_BYTES = 1 << 26  # 64 MiB: 5,461 images of 64 x 64, 445 of 224 x 224


@dataclass(frozen=True)
class Arrays:
    """One split as tensors, with the statistics of this very split."""

    images: Tensor  # (N, C, H, W) uint8, copy-on-write where memory-mapped
    labels: Tensor | None  # (N,) int64
    classes: tuple[str, ...]
    normalizer: Normalizer
    warnings: tuple[str, ...] = ()


def arrays_of(raw: RawImages) -> Arrays:
    """Tensors of freshly read images."""
    images = torch.from_numpy(np.ascontiguousarray(raw.images[:]))
    labels = None if raw.labels is None else torch.from_numpy(raw.labels)
    return Arrays(images, labels, raw.classes, Normalizer.of(images), raw.warnings)


@dataclass(frozen=True)
class Prepared:
    """One split of one source at one size, on disk or about to be."""

    folder: Path
    split: str

    @staticmethod
    def in_cache(key: str, image_size: int, split: str) -> "Prepared":
        """Where the cache keeps the split of the source that is called `key`."""
        return Prepared(cache_folder() / "prepared" / key / str(image_size), split)

    @property
    def path(self) -> Path:
        """The file with the images."""
        return self._file("images")

    def lock(self) -> AbstractContextManager[None]:
        """Keep other processes from preparing the same split meanwhile."""
        return file_lock(self.folder / f".{self.split}.lock", self._phase)

    def write(self, raw: RawImages, location: DataLocation) -> None:
        """Write images, labels and, last, the manifest; continue what a killed process left.

        Raises:
            DataError: an image cannot be read, or the disk is full.
        """
        shape = raw.images.shape
        part = self._part(shape, location)
        append_resumable(part, raw.images, self._phase)
        normalizer, digest = measure(part, shape)
        files = {"images": _file_facts(part, shape, "uint8", digest)}
        if raw.labels is not None:
            files["labels"] = self._save_labels(raw.labels)
        part.replace(self.path)
        manifest: Json = {
            "format": FORMAT,
            "files": files,
            "classes": list(raw.classes),
            "normalizer": normalizer.statistics,
            "origin": _location_json(location),
            "warnings": list(raw.warnings),
        }
        write_json(self.folder / f"{self.split}.json", {**manifest, "sha256": _digest(manifest)})

    def location(self) -> DataLocation | None:
        """Where the cached split was read from; None where nothing usable is cached."""
        if (manifest := self._manifest()) is None:
            return None
        plain = manifest["origin"]
        path, splits = Path(plain["path"]), tuple(plain["splits"])
        return DataLocation(path, plain["facts"], splits, plain["outlives"])

    def read(self, location: DataLocation) -> Arrays | None:
        """The cached split; None where it is absent, unfinished or not of today's `location`.

        Raises:
            ChecksumError: a file has changed since it was written.
        """
        manifest = self._manifest()
        if manifest is None or manifest["origin"] != _location_json(location):
            return None
        images, labels = self._open(manifest, "images"), self._open(manifest, "labels")
        if images is None or (labels is None and "labels" in manifest["files"]):
            return None
        normalizer = Normalizer.from_statistics(manifest["normalizer"])
        warnings = tuple(manifest.get("warnings", ()))
        return Arrays(images, labels, tuple(manifest["classes"]), normalizer, warnings)

    def verify(self) -> dict[str, str]:
        """Compare every byte with the manifest; the digests, by part.

        Raises:
            DataError: nothing is cached here.
            ChecksumError: a file has changed since it was written.
        """
        manifest = self._manifest()
        if manifest is None:
            raise DataError(f"{self.path} is not prepared; run 'datastill data prepare'")
        for part, facts in manifest["files"].items():
            self._check(part, facts)
        return {part: facts["sha256"] for part, facts in manifest["files"].items()}

    def _file(self, part: str) -> Path:
        return self.folder / f"{self.split}.{part}.npy"

    @property
    def _phase(self) -> str:
        return f"prepare {self.folder.parent.name}/{self.split}"

    def _part(self, shape: tuple[int, ...], location: DataLocation) -> Path:
        """Where these images grow; parts of what was there before are deleted."""
        key = repr((FORMAT, tuple(shape), _location_json(location))).encode()
        name = f".{self.split}.images.{hashlib.sha256(key).hexdigest()[:8]}.part"
        for stale in self.folder.glob(f".{self.split}.images.*.part"):
            if stale.name != name:
                stale.unlink(missing_ok=True)
        return self.folder / name

    def _save_labels(self, labels: Labels) -> Json:
        file = self._file("labels")
        with atomic_write(file) as target, target.open("wb") as opened:
            np.save(opened, labels)
        return _file_facts(file, labels.shape, str(labels.dtype), sha256(file))

    def _manifest(self) -> Json | None:
        try:
            manifest: Json = json.loads((self.folder / f"{self.split}.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            return None
        return manifest if manifest.pop("sha256", "absent") == _digest(manifest) else None

    def _open(self, manifest: Json, part: str) -> Tensor | None:
        facts, file = manifest["files"].get(part), self._file(part)
        if facts is None or not file.is_file() or file.stat().st_size != facts["bytes"]:
            return None
        self._check(part, facts)
        # copy-on-write: torch warns of arrays that it must not write to
        array = np.load(file, mmap_mode="c", allow_pickle=False)
        if list(array.shape) != facts["shape"] or str(array.dtype) != facts["dtype"]:
            return None
        return torch.from_numpy(np.asarray(array))

    def _check(self, part: str, facts: Json) -> None:
        if sha256(self._file(part)) != facts["sha256"]:
            raise ChecksumError(
                f"{self._file(part)} has changed since it was written;"
                " delete it and run 'datastill data prepare' again"
            )


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
    """Statistics and SHA-256 of a finished file with images of `shape`, in one pass."""
    digest = hashlib.sha256()

    def blocks() -> Iterator[Tensor]:
        with file.open("rb") as opened:
            digest.update(opened.read(len(_npy_header(shape))))
            length = _chunk_length(shape) * prod(shape[1:])
            while (block := np.fromfile(opened, np.uint8, length)).size:
                digest.update(block.data)
                yield torch.from_numpy(block).view(-1, *shape[1:])

    return Normalizer.of_blocks(blocks()), digest.hexdigest()


def _chunk_length(shape: tuple[int, ...]) -> int:
    """Images that are read and written together."""
    return max(1, CHUNK_BYTES // prod(shape[1:]))


def _npy_header(shape: tuple[int, ...]) -> bytes:
    header = io.BytesIO()
    facts = {"descr": "|u1", "fortran_order": False, "shape": tuple(map(int, shape))}
    np.lib.format.write_array_header_1_0(header, facts)
    return header.getvalue()


def _file_facts(file: Path, shape: tuple[int, ...], dtype: str, digest: str) -> Json:
    size = file.stat().st_size
    return {"shape": list(shape), "dtype": dtype, "bytes": size, "sha256": digest}


def _digest(manifest: Json) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _location_json(location: DataLocation) -> Json:
    return {
        "path": str(location.path),
        "facts": location.facts,
        "splits": list(location.splits),
        "outlives": location.valid_without_source,
    }
