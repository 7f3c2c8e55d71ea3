"""tables: the numbers in Markdown and CSV."""

import csv
import io
from pathlib import Path

import pytest
from synthetic_runs import row, write_lines

from datastill.report.blocks import blocks
from datastill.report.build import ReportFiles
from datastill.report.rows import read_rows
from datastill.report.tables import CSV_HEADER, csv_text, markdown


def test_markdown__shows_mean_half_width_and_n(tmp_path: Path) -> None:
    # std 2, n 3: 4.3027 · 2 / √3 = 4.97
    lines = [row("krr-st", v, seed=k) for k, v in enumerate((48.0, 50.0, 52.0))]
    write_lines(tmp_path / "rows.jsonl", [*lines, row("target-model", 73.5)])
    text = markdown(blocks(read_rows([tmp_path])))
    assert "| krr-st | 50 | **50.0 ± 5.0** (3) |" in text
    assert "| target-model | – | 73.5 (1) |" in text


def test_markdown__shows_r_squared_with_three_decimals(tmp_path: Path) -> None:
    line = row("full-source", None, r_squared=0.9512, task="held-out-r2")
    write_lines(tmp_path / "rows.jsonl", [line])
    assert "| full-source | – | 0.951 (1) |" in markdown(blocks(read_rows([tmp_path])))


def test_markdown__tells_differences_and_whether_they_exclude_zero(tmp_path: Path) -> None:
    lines = [row("krr-st", 50.0 + k, seed=k) for k in range(3)]
    lines += [row("random-subset", 40.0 + k, seed=k) for k in range(3)]
    write_lines(tmp_path / "rows.jsonl", lines)
    text = markdown(blocks(read_rows([tmp_path])))
    assert "| krr-st − random-subset | 50 | +10.0 (10.0 to 10.0; excludes 0) |" in text


def test_markdown__names_cannot_break_the_table(tmp_path: Path) -> None:
    write_lines(tmp_path / "rows.jsonl", [row("a|b\n<script>", 1.0)])
    text = markdown(blocks(read_rows([tmp_path])))
    assert "| a\\|b &lt;script> | 50 |" in text


def test_csv__has_a_line_per_cell_with_all_keys(tmp_path: Path) -> None:
    lines = [row("krr-st", v, seed=k) for k, v in enumerate((48.0, 50.0, 52.0))]
    write_lines(tmp_path / "rows.jsonl", [*lines, row("random-subset", 40.0, variant='x,"y"')])
    found = list(csv.DictReader(io.StringIO(csv_text(blocks(read_rows([tmp_path]))))))
    assert [line["variant"] for line in found] == ['x,"y"', ""]
    krr = found[1]
    assert (krr["mean"], krr["std"], krr["n"]) == ("50.0", "2.0", "3")
    assert float(krr["high"]) == pytest.approx(54.968, abs=1e-3)
    assert found[0]["low"] == "" and found[0]["n"] == "1"


def test_csv__of_a_whole_run_is_rectangular(report: ReportFiles) -> None:
    lines = list(csv.reader(io.StringIO(report.table_csv.read_text("utf-8"))))
    assert tuple(lines[0]) == CSV_HEADER
    assert {len(line) for line in lines} == {len(CSV_HEADER)}
    assert len(lines) == 1 + 7 * 6 + 7 + 5


def test_csv__names_the_difference_to_random_images(tmp_path: Path) -> None:
    lines = [row("krr-st", 50.0 + k, seed=k) for k in range(3)]
    lines += [row("random-subset", 40.0 + k, seed=k) for k in range(3)]
    write_lines(tmp_path / "rows.jsonl", lines)
    found = list(csv.DictReader(io.StringIO(csv_text(blocks(read_rows([tmp_path]))))))
    assert [line["minus_random"] for line in found] == ["", "10.0"]
    assert found[1]["minus_random_paired"] == "yes"


def test_markdown__a_cell_that_was_not_measured_is_a_dash(tmp_path: Path) -> None:
    here = [row("krr-st", 50.0), row("random-subset", 40.0)]
    there = [row("krr-st", 60.0, data="kanji")]
    write_lines(tmp_path / "rows.jsonl", [*here, *there])
    text = markdown(blocks(read_rows([tmp_path])))
    assert "| random-subset | 50 | 40.0 (1) | – |" in text
    assert "| krr-st − random-subset | 50 | +10.0 (no interval; unknown) | – |" in text
