"""Rows of one size in a file that several processes fill at once, in any order; any may be killed.

A row counts where the checksum beside it fits: never one that was half written, damaged, or written
for another key. Nobody waits and nothing is locked, for all who share a key write the same rows.
"""

import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datastill.ground.atomic import write_json
from datastill.ground.errors import DataError
from datastill.ground.options import Json

Numbers = NDArray[np.int64]
Rows = NDArray[np.uint8]
SUM_BYTES = 4


@dataclass(frozen=True, eq=False)
class CheckedRows:
    """What was never written takes no room on the disk, though the file has its full length."""

    folder: Path
    count: int
    width: int  # bytes of a row
    start: int  # checksums go on from that of the key

    @staticmethod
    def open(folder: Path, facts: Json, *, count: int, width: int) -> "CheckedRows":
        """The rows of the key `facts`, which is written beside them; made where there are none.

        Raises:
            DataError: the files cannot be made.
        """
        key = json.dumps([facts, width], sort_keys=True)
        rows = CheckedRows(folder, count, width, zlib.crc32(key.encode()))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for file, size in ((rows._rows, width), (rows._sums, SUM_BYTES)):
                with file.open("ab") as opened:
                    opened.truncate(count * size)
            if not (folder / "facts.json").exists():
                write_json(folder / "facts.json", facts)
        except OSError as error:
            raise DataError(f"{folder} cannot be written: {error.strerror or error}") from error
        return rows

    def map(self) -> "np.memmap[Any, np.dtype[np.uint8]]":  # (count, width)
        """All rows, as they are on the disk. Only rows that are sound may be looked at.

        On some file systems others have no page, and where the disk is full never get one.
        """
        return np.memmap(self._rows, np.uint8, "r+", shape=(self.count, self.width))

    def sound(self, numbers: Numbers) -> NDArray[np.bool_]:  # (n,) -> (n,)
        """Which of these rows can be used.

        Raises:
            OSError: the files are gone, or cannot be read.
        """
        sums = _read(self._sums, numbers, SUM_BYTES).view(np.uint32)[:, 0]
        written = np.flatnonzero(sums)
        rows = _read(self._rows, numbers[written], self.width)
        sound = np.zeros(len(numbers), np.bool_)
        sound[written] = self._checksums(rows) == sums[written]
        return sound

    def write(self, numbers: Numbers, rows: Rows) -> None:  # (n,), (n, width)
        """Write rows and their checksums.

        Not through a memory map: on a full disk that would end the process.

        Raises:
            OSError: no space, or the files are gone; what was written before can be used.
        """
        sums = self._checksums(rows)
        for file, values in ((self._rows, rows), (self._sums, sums[:, None].view(np.uint8))):
            with file.open("r+b", buffering=0) as opened:
                for first, run in _runs(numbers):
                    part = np.ascontiguousarray(values[run])
                    if os.pwrite(opened.fileno(), part.data, first * part.shape[1]) < part.nbytes:
                        raise OSError("the disk is full")

    @property
    def _rows(self) -> Path:
        return self.folder / "rows"

    @property
    def _sums(self) -> Path:
        return self.folder / "sums"

    def _checksums(self, rows: Rows) -> NDArray[np.uint32]:  # 0: never written
        return np.array([zlib.crc32(row.data, self.start) for row in rows], np.uint32)


def _runs(numbers: Numbers) -> Iterator[tuple[int, slice]]:
    """Consecutive numbers: the first, and where they stand."""
    starts = np.flatnonzero(np.diff(numbers, prepend=-2) != 1)
    for start, stop in zip(starts, [*starts[1:], len(numbers)], strict=False):
        yield int(numbers[start]), slice(start, stop)


def _read(file: Path, numbers: Numbers, width: int) -> Rows:  # (n,) -> (n, width)
    found = np.zeros((len(numbers), width), np.uint8)
    with file.open("rb", buffering=0) as opened:
        for first, run in _runs(numbers):
            read = os.pread(opened.fileno(), found[run].nbytes, first * width)
            found[run].flat[: len(read)] = np.frombuffer(read, np.uint8)
    return found
