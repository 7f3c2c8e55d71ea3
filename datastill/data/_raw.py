"""What readers hand over: images, in memory or yet to be read, and where they came from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datastill.core.errors import DataError
from datastill.core.options import Json

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
        """The images of a range, such as images[100:200]."""
        start, stop, _ = rows.indices(len(self))
        return self.read(start, stop)


@dataclass(frozen=True)
class RawImages:
    """One split, resized, not yet cached."""

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
    a cache whose facts differ from today's is stale.
    """

    path: Path
    facts: Json
    splits: tuple[str, ...] = ("train", "test")
    valid_without_source: bool = False  # may the cache be used after `path` was deleted?


def file_signature(path: Path) -> Json:
    """Size in bytes and time of change in nanoseconds of a file.

    Of a folder: when files were last added or removed in it or two levels below it. Looking at
    every one of 100,000 files at each start would take longer than reading the cache.
    """
    if path.is_file():
        status = path.stat()
        return {"bytes": status.st_size, "changed_ns": status.st_mtime_ns}
    folders = [path, *path.glob("*/"), *path.glob("*/*/")]
    return {"changed_ns": max(folder.stat().st_mtime_ns for folder in folders)}
