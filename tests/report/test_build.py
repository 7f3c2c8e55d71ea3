"""build and page: a page that stands alone, whatever is missing and whoever chose the names."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from synthetic_runs import row, write_lines

from datastill.ground.errors import DataError
from datastill.report.build import ReportFiles, build

HOSTILE = "<script>alert(1)</script>\"' $x^2$ \x1b & {{ 7*7 }}"


class Attributes(HTMLParser):
    """All (tag, attribute, value) of a page, and a check that tags are closed in order."""

    VOID = frozenset({"meta", "img", "link", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_build__writes_three_files(report: ReportFiles) -> None:
    for path in (report.table_markdown, report.table_csv, report.page):
        assert path.is_file()
    assert report.page.parent.joinpath("report.html") == report.page
    assert report.headline.startswith("Distilled: ")


def test_page__asks_nothing_of_any_network(report: ReportFiles) -> None:
    text = report.page.read_text("utf-8")
    assert not re.findall(r"url\(|@import|<script|<link|<iframe", text)
    for tag, name, value in Attributes(text).found:
        if name in ("src", "href", "srcset", "action", "data", "poster"):
            assert tag == "img" and value.startswith("data:image/"), (tag, name, value[:80])
    assert "http://" not in text and "https://" not in text


def test_page__tells_the_whole_story(report: ReportFiles) -> None:
    text = report.page.read_text("utf-8")
    for words in (
        "50 images distilled from glyphs",
        "Fine-tuning",
        "Held-out R²",
        "What distillation adds",
        "Age of the inner model used",
        "The mean age fell",
        "734 MB",
        "datastill run quick",
        "objective: barlow-twins",
        "0123abc",
        "share one distilled set",
        "The pool of inner models as in the released code",
    ):
        assert words in text, words


def test_build__is_a_pure_function_of_its_files(
    quick: Path, report: ReportFiles, tmp_path: Path
) -> None:
    again = build([quick], tmp_path / "again")
    assert again.page.read_bytes() == report.page.read_bytes()


def test_build__rows_alone_are_enough(tmp_path: Path) -> None:
    write_lines(tmp_path / "rows.jsonl", [row("scratch", 17.0)])
    text = build([tmp_path], tmp_path / "report").page.read_text("utf-8")
    assert "No row here comes from a distilled set." in text
    assert "No command was recorded" in text
    Attributes(text)


def test_build__hostile_names_are_only_text(tmp_path: Path) -> None:
    keys = ("method", "variant", "source", "data", "task", "setting", "network")
    write_lines(tmp_path / "rows.jsonl", [row("krr-st", 1.0) | dict.fromkeys(keys, HOSTILE)])
    (tmp_path / "config.yaml").write_text(HOSTILE)
    text = build([tmp_path], tmp_path / "report").page.read_text("utf-8")
    assert "<script" not in text and "&lt;script&gt;" in text
    Attributes(text)


def test_build__numbers_that_are_not_finite_are_shown_as_such(tmp_path: Path) -> None:
    lines = [row("krr-st", None, seed=k) for k in range(2)]
    write_lines(tmp_path / "rows.jsonl", [*lines, row("random-subset", 30.0)])
    assert "not finite" in build([tmp_path], tmp_path / "out").page.read_text("utf-8")


def test_build__without_rows_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no rows\.jsonl"):
        build([tmp_path], tmp_path / "report")
    assert not (tmp_path / "report").exists()
