"""Any folder of images, with or without class folders: folder:PATH."""

import hashlib
import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datastill.core.errors import DataError
from datastill.core.options import option
from datastill.core.rng import derive
from datastill.data.cache import DataLocation, RawImages
from datastill.data.decode import STRIP, SUFFIXES, Decoded, decode_files, is_image_name
from datastill.data.source import ImageSource

TOLERATED = 0.01  # share of files that may be unreadable
TEST_FOLDERS = ("test", "val", "valid", "validation")  # the first of them is the test split
RUN_FILES = {"config.yaml", "environment.json"}  # of our own run folders, which are no data
HELD_OUT = 0.2  # share of a class that becomes the test split where folders do not say
SEED = 0
LABELLED_LAYOUT = "train/CLASS/IMAGE and test/CLASS/IMAGE, or CLASS/IMAGE"
READER_VERSION = 2  # raise it when a folder is read differently: its cache is then stale


@dataclass(frozen=True)
class ImageFolderSource(ImageSource):
    """Images of a folder, as RGB; `find_layout` decides what becomes a split and a label.

    As a source, any arrangement will do. As transfer data it must be train/CLASS/IMAGE and
    test/CLASS/IMAGE, or CLASS/IMAGE: then a fifth of each class, chosen by seed 0, is for testing.
    Files that cannot be read are skipped with a warning as long as they are at most 1 %.
    """

    licence = "unspecified (your own data)"
    citation = "none"

    path: str = option("", "folder of images; where it is empty, the data root")

    def _find(self, data_root: Path | None) -> DataLocation:
        if not self.path and data_root is None:
            raise DataError("which folder? Write folder:PATH")
        root = (Path(self.path) if self.path else Path(data_root or "")).expanduser().resolve()
        if not root.is_dir():
            raise DataError(f"there is no folder {root}")
        listing = list_images(root)
        facts = {
            "images": len(listing.files),
            "listing": listing_digest(root, listing.files),
            "reader": READER_VERSION,
        }
        return DataLocation(root, facts, tuple(find_layout(root, listing).files))

    def _read(self, split: str, image_size: int, location: DataLocation) -> RawImages:
        root = location.path
        layout = find_layout(root, list_images(root))
        if split not in layout.files:
            why = layout.test_problem or f"it needs {LABELLED_LAYOUT}"
            raise DataError(f"{root} has no {split} images; {why}")
        files = layout.files[split]
        paths = [root / file for file in files]
        decoded = decode_files(paths, image_size, f"read {root.name}/{split}")
        warnings = (*layout.warnings, *_decode_warnings(root, decoded, files))
        if not layout.classes:
            return RawImages(decoded.images, warnings=warnings)
        order = {name: k for k, name in enumerate(layout.classes)}
        readable = (file for k, file in enumerate(files) if k not in decoded.unreadable)
        labels = [order[class_of(file)] for file in readable]
        return RawImages(decoded.images, np.array(labels, np.int64), layout.classes, warnings)


@dataclass(frozen=True)
class Listing:
    """The files and folders below a folder, relative to it."""

    files: list[Path]  # with the suffix of an image, sorted
    empty: list[Path]  # folders without any file or folder
    runs: list[Path]  # run folders of datastill, which were left out


@dataclass(frozen=True)
class Layout:
    """The image files of every split, relative to the root, and the classes if there are any."""

    files: dict[str, list[Path]]
    classes: tuple[str, ...]  # sorted names of class folders; empty without labels
    warnings: tuple[str, ...] = ()  # what the layout leaves out
    test_problem: str = ""  # why there is no test split although there is a folder for it


def list_images(root: Path) -> Listing:
    """List all files with the suffix of an image; links are followed, hidden names left out.

    Raises:
        DataError: a folder cannot be read.
    """

    def fail(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror or error}") from error

    listing = Listing([], [], [])
    for name, below, files in os.walk(root, onerror=fail, followlinks=True):
        folder = Path(name)
        relative = folder.relative_to(root)
        if set(files) >= RUN_FILES and folder != root:
            listing.runs.append(relative)
            below.clear()
            continue
        below[:] = [entry for entry in below if not entry.startswith(".")]
        for entry in [entry for entry in below if (folder / entry).is_symlink()]:
            if folder.resolve().is_relative_to((folder / entry).resolve()):  # a loop
                below.remove(entry)
        if not below and not files:
            listing.empty.append(relative)
        listing.files.extend(relative / file for file in files if is_image_name(file))
    listing.files.sort()
    return listing


def find_layout(root: Path, listing: Listing) -> Layout:
    """Find splits and classes from the paths alone.

    - `train/...` and perhaps `test/...` (or val, valid, validation): these are the splits; anything
      beside them is ignored (but `train` may be a class among others, where it holds images and no
      folders).
    - CLASS/IMAGE throughout, at least two classes: a fifth of each class, chosen by a fixed seed,
      is the test split.
    - anything else: one unlabelled training split of all images, however deep they lie.

    Raises:
        DataError: there are no images, or the test split has classes that train has not.
    """
    files, warnings = listing.files, []
    if not files:
        raise DataError(f"{root} holds no images (files ending in {', '.join(SUFFIXES)})")
    if listing.runs:
        warnings.append(f"{root}: {_names(listing.runs)} left out, as a run folder of datastill")
    folders = {name: [f for f in files if f.parts[0] == name] for name in ("train", *TEST_FOLDERS)}
    folders = {name: members for name, members in folders.items() if members}
    train = folders.get("train", [])
    has_splits = any(len(file.parts) > 2 for file in train) or (
        bool(train) and sum(map(len, folders.values())) == len(files)
    )
    classes = _class_folders(root, train if has_splits else files, 1 + has_splits, warnings)
    if classes and (empty := [folder for folder in listing.empty if folder.name not in classes]):
        warnings.append(f"{root}: {_names(empty)} empty and no class")
    if has_splits:
        return _layout_of_splits(root, files, folders, classes, warnings)
    held_out = _held_out(files) if classes else set()
    splits = {"train": [file for file in files if file not in held_out], "test": sorted(held_out)}
    return Layout({k: part for k, part in splits.items() if part}, classes, tuple(warnings))


def class_of(file: Path) -> str:
    """Return the class of a file in a class folder, as valid text in composed form (NFC)."""
    return unicodedata.normalize("NFC", _folder_name(file))


def _folder_name(file: Path) -> str:
    return os.fsencode(file.parent.name).decode("utf-8", "replace")


def _layout_of_splits(
    root: Path,
    files: list[Path],
    folders: dict[str, list[Path]],
    classes: tuple[str, ...],
    warnings: list[str],
) -> Layout:
    """Return the layout where there is a folder train, and perhaps one for testing."""
    name = next((name for name in TEST_FOLDERS if name in folders), "")
    if ignored := sorted({file.parts[0] for file in files} - {"train", name}):
        warnings.append(f"{root}: beside train, {', '.join(ignored[:3])} not read")
    if name not in ("", "test"):
        warnings.append(f"{root} has no folder test and is tested on {name}")
    splits, test, problem = {"train": folders["train"]}, folders.get(name, []), ""
    if classes and any(len(file.parts) != 3 for file in test):
        problem = f"{name} has no class folders as train has: labelled data need {LABELLED_LAYOUT}"
    elif classes and (unknown := sorted(set(map(class_of, test)) - set(classes))):
        problem = (
            f"{name} has classes that train has not: {', '.join(unknown[:5])};"
            f" add them to train or remove them from {name}"
        )
    if problem:
        warnings.append(f"{root}: {name} is not read, because {problem}")
    elif test:
        splits["test"] = test
    return Layout(splits, classes, tuple(warnings), problem)


def _class_folders(
    root: Path, files: Sequence[Path], depth: int, warnings: list[str]
) -> tuple[str, ...]:
    """Return class names if every file is in a class folder `depth` levels down, else none."""
    fitting = [file for file in files if len(file.parts) == depth + 1]
    # in the order of the names as they are on disk
    names = dict.fromkeys(map(class_of, sorted(fitting, key=lambda file: file.parent.name)))
    others = sorted(set(files) - set(fitting))
    if depth == 2 and all(len(file.parts) > 3 for file in files):
        warnings.append(f"{root} is read without labels: train has folders in its class folders")
    if len(names) < 2:
        return ()
    if others:
        if len(fitting) > len(others):
            warnings.append(
                f"{root} is read without labels: {_names(others)} not directly in a class folder,"
                f" as {len(fitting)} images are"
            )
        return ()
    return tuple(names)


def _names(paths: Sequence[Path]) -> str:
    """Return up to three names, with the verb that follows."""
    more = ", ..." if len(paths) > 3 else ""
    return ", ".join(map(str, paths[:3])) + more + (" is" if len(paths) == 1 else " are")


def _held_out(files: Sequence[Path]) -> set[Path]:
    chosen: set[Path] = set()
    members: dict[str, list[Path]] = {}
    for file in files:
        members.setdefault(_folder_name(file), []).append(file)
    for name, images in members.items():
        order = np.random.default_rng(derive(SEED, "folder-split", name)).permutation(len(images))
        # a class of two or more keeps an image on either side
        count = min(max(1, round(HELD_OUT * len(images))), len(images) - 1)
        chosen |= {images[i] for i in order[:count]}
    return chosen


def _decode_warnings(root: Path, decoded: Decoded, files: Sequence[Path]) -> list[str]:
    """Describe what was skipped, converted or cut off.

    Raises:
        DataError: too many files cannot be read.
    """
    warnings, total = [], len(files)
    if skipped := decoded.unreadable:
        names = ", ".join(str(files[position]) for position in list(skipped)[:3])
        text = f"{len(skipped)} of {total} images in {root} cannot be read: {names}"
        text += f"{', ...' if len(skipped) > 3 else ''} (the first: {next(iter(skipped.values()))})"
        if len(skipped) > TOLERATED * total:
            raise DataError(f"{text}; more than {TOLERATED:.0%} is too many, remove or repair them")
        warnings.append(f"{text}; they were skipped")
    if decoded.converted:
        modes = ", ".join(f"{count} of mode {mode}" for mode, count in decoded.converted.items())
        warnings.append(
            f"{decoded.converted.total()} of {total} images in {root} are not RGB (grey, palette or"
            f" transparent: {modes}) and were converted"
        )
    if decoded.strips:
        warnings.append(
            f"{decoded.strips} of {total} images in {root} are more than {STRIP:g} times as long as"
            " wide; all but the central square was cut off"
        )
    return warnings


def listing_digest(root: Path, files: Sequence[Path]) -> str:
    """Return the SHA-256 of names, sizes and times of change: any edit in the folder changes it."""
    digest = hashlib.sha256()
    for file in files:
        try:
            status = (root / file).stat()
            version = f"\0{status.st_size}\0{status.st_mtime_ns}\n"
        except OSError as error:  # a link to nowhere: reading it will tell
            version = f"\0{error.errno}\n"
        digest.update(os.fsencode(file) + version.encode())
    return digest.hexdigest()
