"""Files of given names below any number of folders."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datastill.ground.errors import DataError


@dataclass(frozen=True)
class Folder:
    """A folder that was met, with its plain files."""

    path: Path
    name: str  # from the given folder downwards, such as quick/target
    files: frozenset[str]


def walk(folders: Sequence[Path]) -> Iterator[Folder]:
    """Every folder in and below `folders`, once each, in the order of names.

    Links below them are not followed and hidden folders are skipped.

    Raises:
        DataError: one of `folders` does not exist.
    """
    seen: set[Path] = set()
    for root in folders:
        if not root.exists():
            raise DataError(f"there is no folder {root}; give folders that a run has written")
        for place, below, names in os.walk(root):
            below[:] = sorted(name for name in below if not name.startswith("."))
            path = Path(place)
            if path.resolve() in seen:
                continue
            seen.add(path.resolve())
            files = frozenset(name for name in names if not (path / name).is_symlink())
            yield Folder(path, _name(root, path), files)


def _name(root: Path, path: Path) -> str:
    return (Path(root.resolve().name) / path.relative_to(root)).as_posix()
