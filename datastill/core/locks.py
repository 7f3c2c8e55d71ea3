"""File locks: one process at a time. The system frees the locks of a process that ends."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from datastill.core.errors import ConfigError, DataError
from datastill.core.progress import logger

POLL_SECONDS = 0.2
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def file_lock(path: Path, phase: str) -> Iterator[None]:
    """Hold the lock file `path` during the block; wait while another process holds it.

    Raises:
        DataError: The file cannot be made, or is a link.
    """
    lock = FileLock(path)
    try:
        _acquire(lock, path, phase)
    except Timeout:
        logger.info(f"{phase}: another process is making it; waiting")
        lock.acquire(poll_interval=POLL_SECONDS)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def exclusive_lock(path: Path, phase: str) -> Iterator[None]:
    """Hold the lock file `path` during the block, or refuse where another process holds it.

    Raises:
        ConfigError: Another process holds it.
        DataError: The file cannot be made, or is a link.
    """
    lock = FileLock(path)
    try:
        _acquire(lock, path, phase)
    except Timeout:
        raise ConfigError(
            f"another process is working on {phase} in {path.parent}; wait for it, or choose"
            " another --out"
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):  # in a folder that can no longer be written it may stay
            path.unlink()  # before the release, so that a waiting process sees it
        lock.release()


def _acquire(lock: FileLock, path: Path, phase: str) -> None:
    """Lock at once or raise Timeout; where the file system has no locks, log that and go on."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except NotImplementedError:
        reason = "Function not implemented"
    except Timeout:
        raise
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise DataError(f"{path} cannot be locked: {error.strerror or error}") from error
        reason = error.strerror or str(error)
    else:
        return
    logger.info(
        f"{path.parent} is on a file system without locks ({reason}); make sure that no other"
        f" process works on {phase} there"
    )
