"""One process at a time: locks that the system frees with the process that holds them."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from datastill.ground.errors import ConfigError, DataError
from datastill.ground.progress import say


@contextmanager
def alone(file: Path, phase: str) -> Iterator[None]:
    """Wait until no other process holds the lock `file`; the system frees it with the process.

    Raises:
        DataError: the file cannot be made.
    """
    with _opened(file) as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{phase}: another process is making it; waiting")
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield


@contextmanager
def undisturbed(file: Path, phase: str) -> Iterator[None]:
    """Hold the lock `file`, or refuse: two processes must not write what it stands for.

    Raises:
        ConfigError: another process holds it.
        DataError: the file cannot be made.
    """
    with _opened(file) as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another process is working on {phase} in {file.parent}; wait for it, or choose"
                " another --out"
            ) from None
        held = _is_still(file, opened)
        try:
            if held:
                yield
        finally:
            if held:
                with suppress(OSError):  # in a folder that can no longer be written it may stay
                    file.unlink()
    if not held:  # its last holder removed it between our opening and our locking
        with undisturbed(file, phase):
            yield


def _is_still(file: Path, opened: TextIO) -> bool:
    """Whether the path leads to what was opened."""
    try:
        return os.path.samestat(file.stat(), os.fstat(opened.fileno()))
    except FileNotFoundError:
        return False


def _opened(file: Path) -> TextIO:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return file.open("w")
    except OSError as error:
        raise DataError(f"{file} cannot be written: {error.strerror or error}") from error
