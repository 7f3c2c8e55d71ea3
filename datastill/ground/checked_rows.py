"""Rows of one size in a file that several processes fill at once, in any order; any may be killed.

A row counts where the checksum beside it fits: never one that was half written, damaged, or written
for another key. Nobody waits and nothing is locked, for all who share a key write the same rows.
"""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datastill.ground.atomic import write_json
from datastill.ground.errors import DataError
from datastill.ground.options import Json

Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CheckedRows:
    """What was never written takes no room on the disk, though the file has its full length."""

    folder: Path
    rows: "np.memmap[Any, np.dtype[np.uint8]]"  # (count, width)
    sums: "np.memmap[Any, np.dtype[np.uint32]]"  # (count,); 0: never written
    start: int  # checksums go on from that of the key

    @staticmethod
    def open(folder: Path, facts: Json, *, count: int, width: int) -> "CheckedRows":
        """The rows of the key `facts`, which is written beside them; made where there are none.

        Raises:
            DataError: the files cannot be made.
        """
        try:
            rows = _mapped(folder / "rows", np.uint8, (count, width))
            sums = _mapped(folder / "sums", np.uint32, (count,))
            if not (folder / "facts.json").exists():
                write_json(folder / "facts.json", facts)
        except OSError as error:
            raise DataError(f"{folder} cannot be written: {error.strerror or error}") from error
        key = json.dumps([facts, width], sort_keys=True)
        return CheckedRows(folder, rows, sums, zlib.crc32(key.encode()))

    def sound(self, numbers: Numbers) -> NDArray[np.bool_]:  # (n,) -> (n,)
        """Which of these rows can be used."""
        found = self.sums[numbers]
        written = np.flatnonzero(found)
        sound = np.zeros(len(numbers), np.bool_)
        sound[written] = self._checksums(self.rows[numbers[written]]) == found[written]
        return sound

    def write(self, numbers: Numbers, rows: NDArray[np.uint8]) -> None:
        """Write rows (n, width), and after them their checksums.

        Not through the memory maps: on a full disk that would end the process.

        Raises:
            OSError: no space, or the folder is gone; what was written before can be used.
        """
        if not len(numbers):
            return
        sums = self._checksums(rows)
        runs = np.flatnonzero(np.diff(numbers, prepend=-2) != 1)  # where consecutive rows begin
        for name, values in (("rows", rows), ("sums", sums)):
            with (self.folder / name).open("r+b") as file:
                for first, part in zip(numbers[runs], np.split(values, runs[1:]), strict=True):
                    file.seek(int(first) * values[0].nbytes)
                    file.write(part.data)

    def _checksums(self, rows: NDArray[np.uint8]) -> NDArray[np.uint32]:
        return np.array([zlib.crc32(row.data, self.start) for row in rows], np.uint32)


def _mapped(file: Path, kind: type[Any], shape: tuple[int, ...]) -> Any:
    """A file of zeros, or what others have made of them."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as opened:
        opened.truncate(np.dtype(kind).itemsize * int(np.prod(shape)))
    return np.memmap(file, kind, "r+", shape=shape)
