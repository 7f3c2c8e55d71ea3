"""File locks: one process at a time. The system frees the locks of a process that ends."""

import errno
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from datastill.core.errors import ConfigError, DataError
from datastill.core.progress import logger

POLL_SECONDS = 0.2
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def file_lock(path: Path, phase: str, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock file `path` during the block.

    Args:
        path: The file; its folder is created.
        phase: What the block does, for messages.
        wait: Wait while another process holds the file; False: raise an error instead, and remove
            the file at the end.

    Raises:
        ConfigError: Another process holds the file, and `wait` is False.
        DataError: The file cannot be made, or is a link.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise ConfigError(
                f"another process is working on {phase} in {path.parent}; wait for it, or choose"
                " another --out"
            ) from None
        logger.info(f"{phase}: another process is making it; waiting")
        lock.acquire(poll_interval=POLL_SECONDS)
    except NotImplementedError:  # of filelock, for ENOSYS
        _log_missing_locks(path, phase, os.strerror(errno.ENOSYS))
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno not in NO_LOCKS:
            raise DataError(f"{path} cannot be locked: {reason}") from error
        _log_missing_locks(path, phase, reason)
    try:
        yield
    finally:
        if not wait:
            with suppress(OSError):  # in a folder that can no longer be written it may stay
                path.unlink()  # before the release, so that a waiting process sees it
        lock.release()


def exclusive_lock(path: Path, phase: str) -> AbstractContextManager[None]:
    """Hold the lock file `path` during the block, or refuse where another process holds it.

    Raises:
        ConfigError: Another process holds it.
        DataError: The file cannot be made, or is a link.
    """
    return file_lock(path, phase, wait=False)


def _log_missing_locks(path: Path, phase: str, reason: str) -> None:
    logger.info(
        f"{path.parent} is on a file system without locks ({reason}); make sure that no other"
        f" process works on {phase} there"
    )
