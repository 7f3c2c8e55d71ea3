"""Where datastill keeps what it can make or fetch again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """The folder named by DATASTILL_CACHE, else ~/.cache/datastill; not created here."""
    named = os.environ.get("DATASTILL_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "datastill"
