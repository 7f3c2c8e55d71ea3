"""Where datastill keeps what it can make or fetch again."""

import os
from pathlib import Path

from datastill.core.errors import DataError


def cache_folder() -> Path:
    """The folder named by DATASTILL_CACHE, else ~/.cache/datastill; not created here.

    Raises:
        DataError: the user has no home folder.
    """
    try:
        return Path(os.environ.get("DATASTILL_CACHE") or "~/.cache/datastill").expanduser()
    except RuntimeError as error:
        raise DataError(f"there is no cache folder ({error}); set DATASTILL_CACHE") from error
