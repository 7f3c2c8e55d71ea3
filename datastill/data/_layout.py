"""How the images of a user's folder are arranged, and what that makes of splits and classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import walk
from pathlib import Path

import numpy as np

from datastill.ground.errors import DataError
from datastill.ground.rng import derive

SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm",
)  # fmt: skip
HELD_OUT = 0.2  # share of a class that becomes the test split where folders do not say
SEED = 0
LABELLED_LAYOUT = "train/CLASS/IMAGE and test/CLASS/IMAGE, or CLASS/IMAGE"


@dataclass(frozen=True)
class Layout:
    """The image files of every split, relative to the root, and the classes if there are any."""

    files: dict[str, list[Path]]
    classes: tuple[str, ...]  # sorted names of class folders; empty without labels

    def labels(self, split: str) -> list[int]:
        """The class of every file of a split with class folders."""
        order = {name: k for k, name in enumerate(self.classes)}
        return [order[file.parent.name] for file in self.files[split]]


def image_files(root: Path) -> list[Path]:
    """Paths, relative to `root` and sorted, of all files with an image suffix.

    Hidden files and folders and files with other suffixes are ignored; links to folders are not
    followed.
    """
    found = []
    for folder, below, files in walk(root):
        below[:] = [name for name in below if not name.startswith(".")]
        relative = Path(folder).relative_to(root)
        found += [relative / name for name in files if _is_image(name)]
    return sorted(found)


def layout_of(root: Path, files: Sequence[Path]) -> Layout:
    """Tell the layout from the paths alone.

    - `train/...` and perhaps `test/...`: these are the splits; anything beside them is ignored
      (but `train` may be a class among others, where it holds images and no folders).
    - CLASS/IMAGE throughout, at least two classes: a fifth of each class, chosen by a fixed seed,
      is the test split.
    - anything else: one unlabelled training split of all images, however deep they lie.

    Raises:
        DataError: there are no images, or train and test do not have the same kind of folders.
    """
    if not files:
        raise DataError(f"{root} holds no images (files ending in {', '.join(SUFFIXES)})")
    if splits := _splits(files):
        return _split_folders(root, splits)
    classes = _class_folders(files, depth=1)
    if not classes:
        return Layout({"train": list(files)}, ())
    held_out = _held_out(files, classes)
    train = [file for file in files if file not in held_out]
    return Layout({"train": train, "test": sorted(held_out)}, classes)


def _splits(files: Sequence[Path]) -> dict[str, list[Path]]:
    splits = {s: [file for file in files if file.parts[0] == s] for s in ("train", "test")}
    deep = any(len(file.parts) > 2 for file in splits["train"])
    alone = sum(map(len, splits.values())) == len(files)
    if not splits["train"] or not (deep or alone):
        return {}
    return {split: found for split, found in splits.items() if found}


def _split_folders(root: Path, splits: dict[str, list[Path]]) -> Layout:
    classes = _class_folders(splits["train"], depth=2)
    test = splits.get("test", [])
    if not classes or not test:
        return Layout(splits, classes)
    if any(len(file.parts) != 3 for file in test):
        raise DataError(f"{root}: train has class folders, so test needs {LABELLED_LAYOUT}")
    if foreign := sorted({file.parent.name for file in test} - set(classes)):
        raise DataError(
            f"{root}: test has classes that train has not: {', '.join(foreign[:5])};"
            " add them to train or remove them from test"
        )
    return Layout(splits, classes)


def _class_folders(files: Sequence[Path], *, depth: int) -> tuple[str, ...]:
    """Class names where every file lies in a class folder `depth` levels down, else none."""
    if any(len(file.parts) != depth + 1 for file in files):
        return ()
    names = sorted({file.parent.name for file in files})
    return tuple(names) if len(names) > 1 else ()


def _held_out(files: Sequence[Path], classes: tuple[str, ...]) -> set[Path]:
    chosen: set[Path] = set()
    members: dict[str, list[Path]] = {name: [] for name in classes}
    for file in files:
        members[file.parent.name].append(file)
    for name, own in members.items():
        order = np.random.default_rng(derive(SEED, "folder-split", name)).permutation(len(own))
        # a class of two or more keeps an image on either side
        count = min(max(1, round(HELD_OUT * len(own))), len(own) - 1)
        chosen |= {own[i] for i in order[:count]}
    return chosen


def _is_image(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)
