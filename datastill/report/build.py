"""Build a report: any number of run folders in, a table, its CSV and a page out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datastill.ground.atomic import write_text
from datastill.report.blocks import blocks
from datastill.report.headline import headline
from datastill.report.page import render
from datastill.report.rows import read_rows
from datastill.report.runs import read_runs
from datastill.report.tables import csv_text, markdown


@dataclass(frozen=True)
class ReportFiles:
    """The files of a report, and its headline as one line of text."""

    table_markdown: Path
    table_csv: Path
    page: Path
    headline: str


def build(folders: Sequence[Path], out: Path) -> ReportFiles:
    """Write `table.md`, `table.csv` and `report.html` about all runs in and below `folders`.

    Raises:
        DataError: no rows anywhere, a broken line, or `out` cannot be written.
        ArtefactError: a distilled set in one of the folders is damaged.
    """
    rows, runs = read_rows(folders), read_runs(folders)
    tables = blocks(rows)
    files = ReportFiles(
        out / "table.md", out / "table.csv", out / "report.html", headline(tables).sentence
    )
    texts = markdown(tables), csv_text(tables), render(tables, rows, runs)
    for path, text in zip((files.table_markdown, files.table_csv, files.page), texts, strict=True):
        write_text(path, text)
    return files
