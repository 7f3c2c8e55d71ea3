"""Any image data set of the Hugging Face hub, or a folder that `datasets` can load: hf:NAME."""

import importlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from datastill.core.errors import ConfigError, DataError, DataWarning
from datastill.core.options import Json, option
from datastill.core.progress import progress_bar
from datastill.data.cache import Bytes, DataLocation, Labels, RawImages, cache_folder
from datastill.data.decode import decode_files
from datastill.data.folder import listing_digest
from datastill.data.source import ImageSource

HUB = Path("huggingface.co/datasets")  # the location of data sets that are on no local disk
HELD_OUT = ("test", "validation", "valid", "val")  # the first of them that has labels is our test
WORDS = ("config", "image", "label")
CHUNK = 512  # images that are in memory, still encoded, at a time
SAVED = ("dataset_dict.json", "state.json")  # written by `save_to_disk`


@dataclass(frozen=True)
class Hf(ImageSource):
    """Images and labels by the column types of `datasets`; needs pip install 'datastill[hf]'.

    The image column is the one of type Image, labels are the one of type ClassLabel; without such
    a column the images are unlabelled. Where there is a choice, say it after the name:
    hf:NAME?config=CONFIG&image=COLUMN&label=COLUMN. The splits are train, and test or else
    validation. NAME may be a folder: one of `save_to_disk`, of class folders or parquet files.
    """

    num_classes = None
    native_size = None
    channels = 3
    licence = "see the card of the data set on the hub"
    citation = (
        "see the card of the data set; Q. Lhoest et al. Datasets: A Community Library for Natural"
        " Language Processing. EMNLP: System Demonstrations, 2021."
    )

    dataset: str = option(
        "", "name on the hub, or a folder; then ?config=C&image=COLUMN&label=COLUMN where needed"
    )

    def _find(self, data_root: Path | None) -> DataLocation:
        name = self.dataset.partition("?")[0]
        if not name and data_root is None:
            raise DataError("which data set? Write hf:NAME, as on huggingface.co/datasets")
        folder = Path(name or data_root or "").expanduser().resolve()
        if not name and not folder.is_dir():
            raise DataError(f"there is no folder {folder}")
        splits = self._splits(folder if folder.is_dir() else None)
        if folder.is_dir():
            return DataLocation(folder, _listing(folder), tuple(splits))
        facts = {split: len(rows) for split, rows in splits.items()}
        return DataLocation(HUB / name, facts, tuple(splits), valid_without_source=True)

    def _read(self, split: str, image_size: int, location: DataLocation | None) -> RawImages:
        assert location is not None  # only embedded sources have none
        library, words = _library(), self._words()
        rows = self._splits(location.path if location.path.is_dir() else None)[split]
        image = _column(rows.features, library.Image, words.get("image"), "image")
        if image is None:
            raise DataError(f"{self.name} has no image column, only {_columns(rows.features)}")
        with progress_bar(f"read {len(rows)} images of {self.name}", 0, 1):
            encoded = rows.cast_column(image, library.Image(decode=False))
            images = _decode(encoded, image, image_size)
        label = _column(rows.features, library.ClassLabel, words.get("label"), "label")
        if label is None:
            return RawImages(images)
        return RawImages(images, _labels(rows, label), tuple(rows.features[label].names))

    def _words(self) -> dict[str, str]:
        text = self.dataset.partition("?")[2]
        words = dict(parse_qsl(text, keep_blank_values=True))
        if (text and not words) or set(words) - set(WORDS):
            raise ConfigError(
                f"hf:{self.dataset}: after ? come {', '.join(f'{w}=' for w in WORDS)}"
            )
        return words

    def _splits(self, folder: Path | None) -> dict[str, Any]:
        """Our splits, each a memory-mapped table of `datasets`; the hub is asked where needed."""
        words, library = self._words(), _library()
        place = self.dataset.partition("?")[0] if folder is None else str(folder)
        try:
            if folder is not None and any((folder / file).exists() for file in SAVED):
                loaded = library.load_from_disk(place)
            else:
                tables = cache_folder() / "huggingface"  # beside all else that can be made again
                loaded = library.load_dataset(place, words.get("config"), cache_dir=str(tables))
        except Exception as error:  # the library, the network and the file formats have many
            raise DataError(
                f"hf:{place} cannot be loaded ({type(error).__name__}: {error});"
                " is it the name of a data set on huggingface.co/datasets or a folder?"
            ) from error
        if not isinstance(loaded, dict):  # one table, saved without a name
            return {"train": loaded}
        return self._chosen(loaded, library)

    def _chosen(self, loaded: Mapping[str, Any], library: Any) -> dict[str, Any]:
        if "train" not in loaded:
            raise DataError(f"{self.name} has no split train, only {', '.join(loaded)}")
        held_out = [split for split in HELD_OUT if split in loaded]
        train, wanted = loaded["train"], self._words().get("label")
        label = _column(train.features, library.ClassLabel, wanted, "label")
        told = [s for s in held_out if label is None or (_labels(loaded[s], label) >= 0).all()]
        if not told:
            return {"train": train}
        if told[0] != "test":
            said = (
                "whose test split has no labels" if "test" in loaded else "which has no test split"
            )
            warnings.warn(
                f"{self.name}, {said}, is tested on its split {told[0]}", DataWarning, stacklevel=2
            )
        return {"train": train, "test": loaded[told[0]]}


def _library() -> Any:
    try:
        return importlib.import_module("datasets")
    except ImportError as error:
        raise DataError("hf:NAME needs another package; pip install 'datastill[hf]'") from error


def _column(features: Mapping[str, Any], kind: type, wanted: str | None, word: str) -> str | None:
    """The column of a type, or the one asked for; None where there is none."""
    names = [name for name, feature in features.items() if isinstance(feature, kind)]
    if wanted is not None and wanted not in names:
        raise DataError(
            f"{word}={wanted} is no {kind.__name__} column; the columns are {_columns(features)}"
        )
    if wanted is None and len(names) > 1:
        raise DataError(
            f"which {word} column, {' or '.join(names)}? Write hf:NAME?{word}={names[0]};"
            f" the columns are {_columns(features)}"
        )
    return wanted or (names[0] if names else None)


def _columns(features: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())


def _labels(rows: Any, column: str) -> Labels:  # (N,); -1 where a label is withheld
    values = rows.select_columns(column)[:][column]
    return np.array([-1 if value is None else value for value in values], np.int64)


def _decode(rows: Any, column: str, image_size: int) -> Bytes:  # (N, 3, S, S)
    """Decode as every source is decoded, a chunk of encoded files at a time."""
    images = np.empty((len(rows), 3, image_size, image_size), np.uint8)
    table = rows.select_columns(column)
    for start in range(0, len(rows), CHUNK):
        cells = table[start : start + CHUNK][column]
        decoded = decode_files([_encoded(cell or {}) for cell in cells], image_size)
        for position, reason in decoded.unreadable.items():
            row = start + position
            raise DataError(f"row {row} of column {column} is no readable image: {reason}")
        images[start : start + len(cells)] = decoded.images
    return images


def _encoded(cell: Json) -> bytes | Path:
    """The file of an image, or its content where the table has it."""
    if cell.get("bytes") is None and cell.get("path"):
        return Path(cell["path"])
    return cell.get("bytes") or b""


def _listing(folder: Path) -> Json:
    """Number of files, and a digest of their names, sizes and times of change."""
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {"files": len(files), "listing": listing_digest(folder, files)}
