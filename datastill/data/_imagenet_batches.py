"""The batches of down-sampled ImageNet: rows of 3 planes of S x S bytes, labels from 1.

A Downsampled Variant of ImageNet as an Alternative to the CIFAR datasets (Chrabaszcz et al., 2017).

The official files are pickles (`train_data_batch_1`) or numpy's zip files (`...1.npz`), 1.6 GB each
at 64 pixels. Unpickling may run any program and would take that much memory. Here a pickle is only
scanned: each of the three names that numpy's arrays need is replaced by an inert record of its
arguments, every other name is refused, and long byte strings are skipped, their offsets recorded.
"""

import io
import pickle  # the one file that may: tests/test_safety.py
import struct
import zipfile
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np

from datastill.core.errors import DataError
from datastill.data.cache import Bytes, Labels

HINT = "extract the official archive again"
NAMES = {
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}
OFFSET = struct.Struct("<q")
# of the images: shape, type, order (is it Fortran's?) and offset in the file; then the labels
Scan = tuple[tuple[int, ...], str, bool, int, Labels]


@dataclass(frozen=True)
class Batch:
    """One file: its labels, and where in it the pixels lie."""

    file: Path
    side: int  # pixels
    start: int  # bytes before the first pixel
    labels: Labels  # (n,) from 0

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, start: int, stop: int) -> Bytes:  # (stop - start, 3, S, S)
        """The images of a range.

        Raises:
            DataError: the file is gone or has become shorter.
        """
        length = 3 * self.side**2
        offset, count = self.start + start * length, (stop - start) * length
        try:
            pixels = np.fromfile(self.file, np.uint8, count, offset=offset)
        except OSError as error:
            raise DataError(f"{self.file} cannot be read: {error.strerror or error}") from error
        if len(pixels) != count:
            raise DataError(f"{self.file} is truncated; {HINT}")
        return pixels.reshape(-1, 3, self.side, self.side)


def open_batch(file: Path) -> Batch:
    """Look into a batch; its pixels stay on disk.

    Raises:
        DataError: it is truncated, no such batch, or names anything but arrays of numpy.
    """
    try:
        scan = _scan_npz if file.suffix == ".npz" else _scan_pickle
        shape, dtype, fortran, start, labels = scan(file)
        side = isqrt(shape[1] // 3) if len(shape) == 2 else 0
        if dtype != "u1" or fortran or not side or shape[1] != 3 * side**2:
            raise ValueError(f"it has {dtype} {shape}, not rows of 3 square planes of u1")
        if labels.shape != shape[:1]:
            raise ValueError(f"it has {shape[0]} images but {labels.size} labels")
        if start + shape[0] * shape[1] > file.stat().st_size:
            raise ValueError("it is truncated")
    except Exception as error:  # a foreign file fails in as many ways as there are
        raise DataError(f"{file} is damaged or no batch of ImageNet: {error}; {HINT}") from error
    return Batch(file, side, start, labels - 1)


class _Record:
    """The arguments of an array or of its type in a pickle; nothing in it is run."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments, self.state = arguments, ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Scanner(pickle.Unpickler):
    """Records the names of numpy and refuses every other one."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in NAMES:
            raise ValueError(f"it names {module}.{name}, which no batch of ImageNet needs")
        return _Record


class _Skipping:
    """A file whose byte strings are not read: each is replaced by its offset in the file."""

    def __init__(self, opened: io.BufferedReader, size: int) -> None:
        self.read, self.readline = opened.read, opened.readline
        self._opened, self._size = opened, size
        self.offsets: set[int] = set()

    def readinto(self, buffer: memoryview) -> int:
        offset = self._opened.tell()
        if len(buffer) < OFFSET.size:
            return self._opened.readinto(buffer)
        OFFSET.pack_into(buffer, 0, offset)
        self.offsets.add(offset)
        return self._opened.seek(min(offset + len(buffer), self._size)) - offset


def _scan_pickle(file: Path) -> Scan:
    with file.open("rb") as opened:
        skipping = _Skipping(opened, file.stat().st_size)
        batch = _Scanner(skipping).load()
    _, shape, dtype, fortran, pixels = batch["data"].state
    (start,) = OFFSET.unpack_from(pixels)
    assert start in skipping.offsets, "pickle protocol 3 is expected"
    shape, labels = tuple(map(int, shape)), np.array(batch["labels"], np.int64)
    return shape, str(dtype.arguments[0]), bool(fortran), start, labels


def _scan_npz(file: Path) -> Scan:
    with zipfile.ZipFile(file) as pack, file.open("rb") as opened:
        with pack.open("labels.npy") as part:
            labels = np.lib.format.read_array(part, allow_pickle=False).astype(np.int64)
        member = pack.getinfo("data.npy")
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError("it is compressed, save it with numpy.savez")
        opened.seek(member.header_offset + 26)  # the local header: 30 bytes, name, extra field
        opened.seek(sum(struct.unpack("<HH", opened.read(4))), io.SEEK_CUR)
        np.lib.format.read_magic(opened)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(opened)
        return shape, dtype.str[1:], fortran, opened.tell(), labels
