"""Prepare and check data sets: `datastill data prepare` and `datastill data check`."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from datastill.core.options import Json
from datastill.data.cache import EMBEDDED
from datastill.data.source import ImageSource
from datastill.images import ImageSet


@dataclass(frozen=True)
class PreparedSplit:
    """One line of `datastill data prepare`."""

    split: str
    count: int
    official: int | None  # how many there should be, where that is known
    path: Path | None  # the cached images; None for embedded sources, which need no cache


def prepare(
    source: ImageSource,
    image_size: int | None = None,
    data_root: str | Path | None = None,
) -> list[PreparedSplit]:
    """Read, resize and cache every split that is there, and return where each is.

    Raises:
        DataError: Files are missing or damaged.
    """
    size = source.size(image_size)
    is_cached, sets = _load_all(source, size, data_root)
    return [
        PreparedSplit(
            split,
            len(images),
            source.official_count(split),
            source.prepared(split, size).path if is_cached else None,
        )
        for split, images in sets.items()
    ]


def check(
    source: ImageSource,
    image_size: int | None = None,
    data_root: str | Path | None = None,
) -> Json:
    """Verify every byte of the cache and compare counts with the official ones; JSON values.

    `complete` is None where no official count is published.

    Raises:
        DataError: Files are missing or damaged.
        ChecksumError: A cached file has changed since it was written.
    """
    size = source.size(image_size)
    is_cached, sets = _load_all(source, size, data_root)
    summaries = {}
    for split, images in sets.items():
        count, official, per_class = len(images), source.official_count(split), None
        if images.labels is not None:
            counts = torch.bincount(images.labels, minlength=len(images.classes))
            per_class = [int(counts.min()), int(counts.max())]  # fewest and most
        prepared = source.prepared(split, size)
        summaries[split] = {
            "count": count,
            "official_count": official,
            "complete": None if official is None else count == official,
            "images_per_class": per_class,
            "path": str(prepared.path) if is_cached else None,
            "sha256": prepared.verify() if is_cached else {},
        }
    train = sets["train"]
    return {
        "source": source.name,
        "licence": source.licence,
        "citation": source.citation,
        "image_size": size,
        "channels": train.channels,
        "classes": list(train.classes),
        "official_classes": source.num_classes,
        "normalizer": train.normalizer.statistics,
        "splits": summaries,
    }


def contact_sheet(images: ImageSet, rows: int = 20, columns: int = 10) -> tuple[Tensor, list[str]]:
    """Pictures of up to `rows` classes, and the classes' names from top to bottom.

    Returns unit pixels (rows * columns, C, H, W), row by row: the first images of classes evenly
    spread over all, white where a class has too few. Without labels: images evenly spread.
    """
    if images.labels is None:
        spread = torch.linspace(0, len(images) - 1, min(rows * columns, len(images)))
        return images.unit_pixels(spread.long()), []
    labels, counts = images.labels, torch.bincount(images.labels, minlength=images.num_classes)
    present = counts.nonzero().flatten()
    chosen = present[torch.linspace(0, len(present) - 1, min(rows, len(present))).long()].tolist()
    sheet = torch.ones(len(chosen), columns, *images.images.shape[1:])
    for row, label in zip(sheet, chosen, strict=True):
        first = (labels == label).nonzero().flatten()[:columns]
        row[: len(first)] = images.unit_pixels(first)
    return sheet.flatten(0, 1), [images.classes[label] for label in chosen]


def _load_all(
    source: ImageSource, size: int, data_root: str | Path | None
) -> tuple[bool, dict[str, ImageSet]]:
    """Load every split that is there; False where the source is embedded and needs no cache."""
    location = source.origin(size, data_root)
    sets = {split: source.load(split, size, data_root) for split in location.splits}
    return location != EMBEDDED, sets
