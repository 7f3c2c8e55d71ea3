"""Files that appear whole or not at all."""

import hashlib
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datastill.ground.errors import DataError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; flush and rename it when the block ends well.

    Raises:
        DataError: the file cannot be written (no space, no permission, no folder).
    """
    part = path.with_name(f".{path.name}.{os.getpid()}@{platform.node()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            _flush(part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        _flush(path.parent)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error


def sweep(folder: Path) -> None:
    """Remove what processes of this machine were writing in a folder when they were killed."""
    for part in folder.glob(f".*@{platform.node()}.part"):
        writer = part.name.removesuffix(f"@{platform.node()}.part").rpartition(".")[2]
        if writer.isdigit() and not _lives(int(writer)):
            part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
