"""Atomic writes: a file appears with all of its contents or not at all."""

import hashlib
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from datastill.core.errors import DataError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; flush and rename it when the block ends without error.

    Raises:
        DataError: The file cannot be written (no space, no permission, no folder).
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
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
    with suppress(OSError):  # some file systems cannot flush a folder
        _flush(path.parent)


def remove_stale_tempfiles(folder: Path) -> None:
    """Remove the temporary files of killed processes of this machine from a folder."""
    for part in folder.glob(f".*@{platform.node()}.part"):
        writer = part.name.removesuffix(f"@{platform.node()}.part").rpartition(".")[2]
        try:
            os.kill(int(writer), 0)
        except ProcessLookupError:
            part.unlink(missing_ok=True)
        except (OSError, ValueError):  # of another user, or not of a process
            pass


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
