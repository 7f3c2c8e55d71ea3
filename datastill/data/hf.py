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
from datastill.data.cache import Bytes, DataLocation, Labels, LazyImages, RawImages, cache_folder
from datastill.data.decode import decode_files
from datastill.data.folder import listing_digest
from datastill.data.source import ImageSource

HUB = Path("huggingface.co/datasets")  # the location of data sets that are on no local disk
HELD_OUT = ("test", "validation", "valid", "val")  # the first of them that has labels is our test
SETTINGS = ("config", "image", "label")  # after ? in the name
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

    def _read(self, split: str, image_size: int, location: DataLocation) -> RawImages:
        library, settings = _library(), self._settings()
        rows = self._splits(location.path if location.path.is_dir() else None)[split]
        image = _column(rows.features, library.Image, settings.get("image"), "image")
        if image is None:
            raise DataError(f"{self.name} has no image column, only {_columns(rows.features)}")
        encoded = rows.cast_column(image, library.Image(decode=False))
        images = _decode(encoded, image, image_size)
        label = _column(rows.features, library.ClassLabel, settings.get("label"), "label")
        if label is None:
            return RawImages(images)
        return RawImages(images, _labels(rows, label), tuple(rows.features[label].names))

    def _settings(self) -> dict[str, str]:
        text = self.dataset.partition("?")[2]
        settings = dict(parse_qsl(text, keep_blank_values=True))
        if (text and not settings) or set(settings) - set(SETTINGS):
            raise ConfigError(
                f"hf:{self.dataset}: after ? come {', '.join(f'{s}=' for s in SETTINGS)}"
            )
        return settings

    def _splits(self, folder: Path | None) -> dict[str, Any]:
        """Our splits, each a memory-mapped table of `datasets`; the hub is read where needed."""
        settings, library = self._settings(), _library()
        name = self.dataset.partition("?")[0] if folder is None else str(folder)
        try:
            if folder is not None and any((folder / file).exists() for file in SAVED):
                tables = library.load_from_disk(name)
            else:
                cache = str(cache_folder() / "huggingface")  # beside all that can be made again
                tables = library.load_dataset(name, settings.get("config"), cache_dir=cache)
        except Exception as error:  # the library, the network and the file formats have many
            raise DataError(
                f"hf:{name} cannot be loaded ({type(error).__name__}: {error});"
                " is it the name of a data set on huggingface.co/datasets or a folder?"
            ) from error
        if not isinstance(tables, dict):  # one table, saved without a name
            return {"train": tables}
        if "train" not in tables:
            raise DataError(f"{self.name} has no split train, only {', '.join(tables)}")
        train = tables["train"]
        label = _column(train.features, library.ClassLabel, settings.get("label"), "label")
        labelled = [
            split
            for split in HELD_OUT
            if split in tables and (label is None or (_labels(tables[split], label) >= 0).all())
        ]
        if not labelled:
            return {"train": train}
        if labelled[0] != "test":
            reason = (
                "whose test split has no labels" if "test" in tables else "which has no test split"
            )
            message = f"{self.name}, {reason}, is tested on its split {labelled[0]}"
            warnings.warn(message, DataWarning, stacklevel=2)
        return {"train": train, "test": tables[labelled[0]]}


def _library() -> Any:
    try:
        return importlib.import_module("datasets")
    except ImportError as error:
        raise DataError("hf:NAME needs another package; pip install 'datastill[hf]'") from error


def _column(
    features: Mapping[str, Any], feature: type, chosen: str | None, setting: str
) -> str | None:
    """Return the column of a type, or the chosen one; None where there is none."""
    names = [name for name, value in features.items() if isinstance(value, feature)]
    if chosen is not None and chosen not in names:
        raise DataError(
            f"{setting}={chosen} is no {feature.__name__} column; the columns are"
            f" {_columns(features)}"
        )
    if chosen is None and len(names) > 1:
        raise DataError(
            f"which {setting} column, {' or '.join(names)}? Write hf:NAME?{setting}={names[0]};"
            f" the columns are {_columns(features)}"
        )
    return chosen or (names[0] if names else None)


def _columns(features: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())


def _labels(rows: Any, column: str) -> Labels:  # (N,); -1 where a label is withheld
    values = rows.select_columns(column)[:][column]
    return np.array([-1 if value is None else value for value in values], np.int64)


def _decode(rows: Any, column: str, image_size: int) -> LazyImages:
    """Decode as every source is decoded, a chunk of encoded files at a time."""
    table = rows.select_columns(column)

    def chunk(start: int, stop: int) -> Bytes:
        cells = table[start:stop][column]
        decoded = decode_files([_encoded(cell or {}) for cell in cells], image_size)
        for position, reason in decoded.unreadable.items():
            row = start + position
            raise DataError(f"row {row} of column {column} is no readable image: {reason}")
        return decoded.images

    def read(start: int, stop: int) -> Bytes:
        starts = range(start, stop, CHUNK)
        return np.concatenate([chunk(first, min(first + CHUNK, stop)) for first in starts])

    return LazyImages((len(rows), 3, image_size, image_size), read)


def _encoded(cell: Json) -> bytes | Path:
    """Return the file of an image, or its content where the table has it."""
    if cell.get("bytes") is None and cell.get("path"):
        return Path(cell["path"])
    return cell.get("bytes") or b""


def _listing(folder: Path) -> Json:
    """Number of files, and a digest of their names, sizes and times of change."""
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {"files": len(files), "listing": listing_digest(folder, files)}
