"""Any folder of images, with or without class folders: folder:PATH."""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from datastill.data._base import AbstractImageSource
from datastill.data._decode import Decoded, decode_files
from datastill.data._layout import LABELLED_LAYOUT, image_files, layout_of
from datastill.data._raw import Origin, RawImages
from datastill.ground.errors import DataError, DataWarning
from datastill.ground.options import option

TOLERATED = 0.01  # share of files that may be unreadable


@dataclass(frozen=True)
class Folder(AbstractImageSource):
    """Images of a folder, as RGB; `datastill.data._layout.layout_of` says what becomes a label.

    As a source, any arrangement will do. As transfer data it must be train/CLASS/IMAGE and
    test/CLASS/IMAGE, or CLASS/IMAGE: then a fifth of each class, chosen by seed 0, is for testing.
    Files that cannot be read are skipped with a warning as long as they are at most 1 %.
    """

    num_classes: ClassVar[int | None] = None
    native_size: ClassVar[int | None] = None
    channels: ClassVar[int] = 3
    licence: ClassVar[str] = "yours to know"
    citation: ClassVar[str] = "none"

    path: str = option("", "folder of images; where it is empty, the data root")

    def _find(self, data_root: Path | None) -> Origin:
        if not self.path and data_root is None:
            raise DataError("which folder? Write folder:PATH")
        root = (Path(self.path) if self.path else Path(data_root or "")).expanduser().resolve()
        if not root.is_dir():
            raise DataError(f"there is no folder {root}")
        files = image_files(root)
        facts = {"images": len(files), "listing": _digest(root, files)}
        return Origin(root, facts, tuple(layout_of(root, files).files))

    def _read(self, split: str, image_size: int, origin: Origin | None) -> RawImages:
        assert origin is not None  # only embedded sources have none
        root = origin.path
        layout = layout_of(root, image_files(root))
        if split not in layout.files:
            raise DataError(f"{root} has no {split} images; it needs {LABELLED_LAYOUT}")
        files = layout.files[split]
        decoded = decode_files([root / file for file in files], image_size)
        _warn(root, decoded, len(files))
        if not layout.classes:
            return RawImages(decoded.images)
        labels = np.array(layout.labels(split), np.int64)[decoded.readable]
        return RawImages(decoded.images, labels, layout.classes)


def _warn(root: Path, decoded: Decoded, total: int) -> None:
    skipped = decoded.unreadable
    if skipped:
        names = ", ".join(str(file.relative_to(root)) for file in skipped[:3])
        said = f"{len(skipped)} of {total} images in {root} cannot be read: {names}"
        said += ", ..." if len(skipped) > 3 else ""
        if len(skipped) > TOLERATED * total:
            raise DataError(f"{said}; more than {TOLERATED:.0%} is too many, remove or repair them")
        warnings.warn(f"{said}; they were skipped", DataWarning, stacklevel=2)
    if decoded.converted:
        warnings.warn(
            f"{decoded.converted} of {total} images in {root} are not RGB (grey, palette or"
            " transparent) and were converted",
            DataWarning,
            stacklevel=2,
        )


def _digest(root: Path, files: Sequence[Path]) -> str:
    """SHA-256 of names, sizes and times of change: any edit in the folder changes it."""
    digest = hashlib.sha256()
    for file in files:
        status = (root / file).stat()
        digest.update(f"{file}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
