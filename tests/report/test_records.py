"""Rows of earlier versions give the means and intervals of the tables beside them."""

import re
from pathlib import Path

import pytest

from datastill.report.arrange import result_tables
from datastill.report.folders import find_runs
from datastill.report.rows import read_rows
from datastill.report.text import ReportWarnings, markdown

RECORDS = Path(__file__).parents[2] / "benchmarks" / "records"
NAMES = ("cifar100-small", "quick", "table1-small", "table1-compared")
NUMBERS = re.compile(r"([−\d.]+ ± [\d.]+)|([+−\d.]+ \([−\d.]+ to [−\d.]+; \w+cludes 0\))")


@pytest.mark.parametrize("name", NAMES)
def test_records__have_the_same_means_and_intervals(name: str) -> None:
    (folder,) = RECORDS.glob(f"*-{name}-2core")
    problems: list[str] = []
    tables = result_tables(read_rows(find_runs([folder], problems), problems))
    assert problems == []
    expected = NUMBERS.findall((folder / "table.md").read_text("utf-8"))
    assert len(expected) > 20
    assert sorted(NUMBERS.findall(markdown(tables, ReportWarnings()))) == sorted(expected)
