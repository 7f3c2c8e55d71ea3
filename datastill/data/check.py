"""Prepare and check data sets: `datastill data prepare` and `datastill data check`."""

from pathlib import Path

import torch
from torch import Tensor

from datastill.core.options import Json
from datastill.data.source import ImageSource
from datastill.images import ImageSet


def prepare(
    source: ImageSource,
    image_size: int | None = None,
    data_root: str | Path | None = None,
) -> dict[str, ImageSet]:
    """Read, resize and cache every split that is there, and return them by name.

    Raises:
        DataError: Files are missing or damaged.
    """
    splits = source.origin(source.size(image_size), data_root).splits
    return {split: source.load(split, image_size, data_root) for split in splits}


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
    sets, summaries = prepare(source, image_size, data_root), {}
    for split, images in sets.items():
        count, official, per_class = len(images), source.official_count(split), None
        if images.labels is not None:
            counts = torch.bincount(images.labels, minlength=len(images.classes))
            per_class = [int(counts.min()), int(counts.max())]  # fewest and most
        prepared = source.prepared(split, images.image_size)
        is_cached = prepared.path.is_file()  # embedded sources need no cache
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
        "image_size": train.image_size,
        "channels": train.channels,
        "classes": list(train.classes),
        "official_classes": source.num_classes,
        "normalizer": train.normalizer.statistics,
        "splits": summaries,
    }


def contact_sheet(images: ImageSet, rows: int = 20, columns: int = 10) -> tuple[Tensor, list[str]]:
    """Return pictures of up to `rows` classes, and the classes' names from top to bottom.

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
