"""What `datastill data prepare` and `datastill data check` do and report."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from datastill.core.options import Json
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
    """Read, resize and cache every split that is there, and say where it lies.

    Raises:
        DataError: files are missing or damaged.
    """
    size = source.size(image_size)
    embedded, splits = _splits(source, size, data_root)
    return [
        PreparedSplit(
            split,
            len(source.load(split, size, data_root)),
            source.official_count(split),
            None if embedded else source.prepared(split, size).path,
        )
        for split in splits
    ]


def check(
    source: ImageSource,
    image_size: int | None = None,
    data_root: str | Path | None = None,
) -> Json:
    """Verify every byte of the cache and compare counts with the official ones; JSON values.

    `complete` is None where no official count is known.

    Raises:
        DataError: files are missing or damaged.
        ChecksumError: a cached file has changed since it was written.
    """
    size = source.size(image_size)
    embedded, splits = _splits(source, size, data_root)
    sets = {split: source.load(split, size, data_root) for split in splits}
    facts = {split: _facts(source, split, images) for split, images in sets.items()}
    for split in splits:
        prepared = source.prepared(split, size)
        facts[split]["path"] = None if embedded else str(prepared.path)
        facts[split]["sha256"] = {} if embedded else prepared.verify()
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
        "splits": facts,
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


def _splits(
    source: ImageSource, size: int, data_root: str | Path | None
) -> tuple[bool, tuple[str, ...]]:
    """Is the source embedded, and which splits does it have here?"""
    location = source.origin(size, data_root)
    return location is None, source.splits if location is None else location.splits


def _facts(source: ImageSource, split: str, images: ImageSet) -> Json:
    official = source.official_count(split)
    return {
        "count": len(images),
        "official_count": official,
        "complete": None if official is None else len(images) == official,
        "images_per_class": _range(images.labels, len(images.classes)),
    }


def _range(labels: Tensor | None, num_classes: int) -> list[int] | None:
    """Fewest and most images of a class."""
    if labels is None:
        return None
    counts = torch.bincount(labels, minlength=num_classes)
    return [int(counts.min()), int(counts.max())]
