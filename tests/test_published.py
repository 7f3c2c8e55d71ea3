"""Published numbers: every one has its source, and the file is one that a program can read."""

import csv
from pathlib import Path

import pytest

from datastill.report.formatting import METHODS

FILE = Path(__file__).parents[1] / "benchmarks" / "published_labelled.csv"
with FILE.open(encoding="utf-8", newline="") as lines:
    ROWS = list(csv.DictReader(lines))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['method']}-{row['images_per_class']}")
def test_published__number_is_a_percentage_with_a_source(row: dict[str, str]) -> None:
    assert row["method"] in METHODS and row["data"] == "cifar10"
    assert row["images_per_class"] in ("1", "10")
    assert 10 < float(row["accuracy"]) < 100 and float(row["spread"] or 0) < 5
    assert row["evaluated_by"] in ("its authors", "quoted")
    assert any(word in row["source"] for word in ("Table", "readme.md"))


def test_published__more_images_are_more_accurate_everywhere() -> None:
    """A slip of a column would show here."""
    by_source: dict[tuple[str, ...], dict[str, float]] = {}
    for row in ROWS:
        key = row["method"], row["network"], row["source"]
        by_source.setdefault(key, {})[row["images_per_class"]] = float(row["accuracy"])
    assert all(found["1"] < found["10"] for found in by_source.values())
