"""The lists of official archives (file names, labels, splits): read, and held to the images."""

import struct
import zlib
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from datastill.core.errors import DataError
from datastill.core.options import Json
from datastill.data.cache import Labels, RawImages
from datastill.data.decode import decode_all

HINT = "extract the archive again"
MATLAB, VERSION, HEADER = b"MATLAB 5.0 MAT-file", b"\x00\x01IM", 128  # bytes
COMPRESSED = 15  # tag of an element that zlib wraps


def read_lines(file: Path) -> list[str]:
    """Read the lines of a text file that are not empty, without the space around them.

    Raises:
        DataError: the file cannot be read, is no text or is empty.
    """
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read as text: {error}; {HINT}") from error
    if not (stripped := [line.strip() for line in lines if line.strip()]):
        raise DataError(f"{file} is empty; {HINT}")
    return stripped


def read_pairs(file: Path, separator: str | None = None) -> list[tuple[str, str]]:
    """Read the first word of every line, and the rest; words end at white space by default.

    Raises:
        DataError: the file is no text, or nothing follows a first word.
    """
    rows = [line.split(separator, 1) for line in read_lines(file)]
    if short := [row[0] for row in rows if len(row) < 2]:
        raise DataError(f"{file}: the line {short[0]!r} should have two columns; {HINT}")
    return [(row[0], row[1]) for row in rows]


def read_mat(file: Path, names: Sequence[str]) -> Json:
    """Read variables of a MATLAB file by name: cells as arrays, structures as dictionaries.

    Raises:
        DataError: the file cannot be read, or lacks one of the variables.
    """
    try:
        encoded = file.read_bytes()
        _check_mat(encoded)
        content: Json = loadmat(BytesIO(encoded), simplify_cells=True)
    except Exception as error:  # scipy answers damaged bytes with errors of many kinds
        raise DataError(f"{file} cannot be read as a MATLAB file: {error}; {HINT}") from error
    if missing := [name for name in names if name not in content]:
        raise DataError(f"{file} has no variable {', '.join(missing)}: it is of another data set")
    return content


def _check_mat(encoded: bytes) -> None:
    """Refuse damaged bytes before scipy sees them, which it may answer by ending the process.

    The published files are MATLAB 5 files of compressed variables: zlib's checksums tell.
    """
    if not encoded.startswith(MATLAB) or encoded[124:128] != VERSION:
        raise ValueError("it is none of version 5")
    position = HEADER
    while position < len(encoded):
        element_type, size = struct.unpack_from("<II", encoded, position)
        if element_type != COMPRESSED:
            raise ValueError("a variable is damaged or not compressed")
        zlib.decompress(encoded[position + 8 : position + 8 + size])
        position += 8 + size


def class_labels(numbers: Iterable[int], classes: int, file: Path, *, first: int = 1) -> Labels:
    """Turn the class numbers of `file`, which count from `first`, into labels from 0.

    Raises:
        DataError: a number is not that of a class.
    """
    try:
        labels = np.array([int(number) for number in numbers], np.int64) - first
    except (TypeError, ValueError) as error:
        raise DataError(f"{file}: labels are no whole numbers: {error}; {HINT}") from error
    if len(labels) and (labels.min() < 0 or labels.max() >= classes):
        raise DataError(
            f"{file}: labels run from {labels.min() + first} to {labels.max() + first},"
            f" but the {classes} classes are numbered from {first}; {HINT}"
        )
    return labels


def listed_images(
    files: Sequence[Path],
    numbers: Iterable[int],
    classes: Sequence[str],
    list_file: Path,
    image_size: int,
    *,
    first: int = 1,
) -> RawImages:
    """Return the images of a list, with labels from its class numbers, which count from `first`.

    Raises:
        DataError: a number is not that of a class; or, when read, a file is missing or no image.
    """
    labels = class_labels(numbers, len(classes), list_file, first=first)
    return RawImages(decode_all(files, image_size), labels, tuple(classes))


def check_no_extra_files(files: Iterable[Path], expected: Iterable[Path], described: str) -> None:
    """Refuse files that lie beside those of a data set, except hidden ones.

    Raises:
        DataError: there are such files.
    """
    extra = sorted(file for file in set(files) - set(expected) if not file.name.startswith("."))
    if extra:
        raise DataError(
            f"{extra[0]} is not among {described}"
            f"{f', nor are {len(extra) - 1} more files' if extra[1:] else ''};"
            f" remove what does not belong there, or {HINT}"
        )
