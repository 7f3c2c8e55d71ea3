"""text and formatting: numbers, dashes, marks, the headline, and names that stay text."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import arranged, row, seeds

from datastill.report import text
from datastill.report.formatting import (
    format_bytes,
    format_difference,
    format_number,
    format_seconds,
    format_summary,
    printable,
)
from datastill.report.statistics import Difference, summarize
from datastill.report.text import LATEX, Headline, ReportWarnings, headline, latex, markdown


def as_markdown(folder: Path, lines: Sequence[dict[str, Any]]) -> str:
    return markdown(arranged(folder, lines), ReportWarnings())


def as_csv(folder: Path, lines: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.csv(arranged(folder, lines)))))


def headline_of(folder: Path, lines: Sequence[dict[str, Any]]) -> Headline:
    return headline(arranged(folder, lines))


def test_markdown__shows_mean_half_width_and_n(tmp_path: Path) -> None:
    # std 2, n 3: 4.3027 · 2 / √3 = 4.97
    lines = seeds("krr-st", 48.0, 50.0, 52.0) + seeds("dm", 8.0, 10.0, 12.0)
    table = as_markdown(tmp_path, [*lines, row("target-model", 73.5)])
    assert "| krr-st | 50 | **50.0 ± 5.0 (3)** |" in table
    assert "| dm | 50 | 10.0 ± 5.0 (3) |" in table
    assert "| target-model | – | 73.5 (1) |" in table


def test_markdown__says_protocol_size_targets_and_updates(tmp_path: Path) -> None:
    same = {"protocol": "mkdt, 100 epochs"}
    lines = [
        row("dm", 1.0, target_kind="hard-label", set_bytes=12_296, pretrain_steps=80, **same),
        row("krr-st", 2.0, target_kind="representation", pretrain_steps=90, **same),
        row("full-source", None, r_squared=0.9512, task="held-out-r2", **same),
    ]
    table = as_markdown(tmp_path, lines)
    assert "## Protocol of MKDT, 100 epochs · Linear probe · 5 per class, output · conv" in table
    assert "| targets | updates | M | size | digits |" in table
    assert "| dm | class labels | 80 | 50 | 12.3 kB | 1.0 (1) |" in table
    assert "| krr-st | representations | 90 | 50 | – | 2.0 (1) |" in table
    assert "| full-source | 0.951 (1) |" in table


def test_markdown__tells_differences_and_what_was_not_measured(tmp_path: Path) -> None:
    lines = seeds("krr-st", 50.0, 51.0, 52.0) + seeds("random-subset", 40.0, 41.0, 42.0)
    table = as_markdown(tmp_path, [*lines, row("krr-st", 60.0, data="kanji")])
    assert "Difference to random images:" in table
    assert "| krr-st | 50 | +10.0 (10.0 to 10.0; excludes 0) | – † |" in table
    assert "† No random images of the same M, targets, updates and settings" in table
    assert "| random-subset | 50 | 41.0 ± 2.5 (3) | – |" in table


def test_markdown__tells_shares_of_the_head_room_and_columns_without(tmp_path: Path) -> None:
    lines = seeds("krr-st", 50.0, 51.0, 52.0) + seeds("random-subset", 40.0, 41.0, 42.0)
    lines += seeds("full-source", 80.0, 81.0, 82.0)
    names = ("krr-st", "random-subset", "full-source")
    lines += [x for name in names for x in seeds(name, 5.0, 7.0, 6.0, data="kanji")]
    table = as_markdown(tmp_path, lines)
    assert (
        "| krr-st | 50 | +10.0 (10.0 to 10.0; excludes 0), 25 % | 0.0 (0.0 to 0.0; includes"
        in table
    )
    assert table.count("| digits | kanji ‡ |") == 2


def test_markdown__tells_which_coded_images_a_difference_is_to(tmp_path: Path) -> None:
    stored = {"settings": {"stored": "avif, 8000 bytes, 16 pixels, int8"}, "set_bytes": 8_000}
    lines = [row("krr-st", 50.0, **stored), row("random-subset", 40.0, count=60, **stored)]
    table = as_markdown(tmp_path, [*lines, row("dm", 50.0), row("random-subset", 40.0)])
    assert "| krr-st, coded | 50 | random-subset, coded (60) | +10.0 (no interval) |" in table
    assert "| dm | 50 | random-subset (50) | +10.0 (no interval) |" in table


def test_markdown__names_cannot_break_the_table(tmp_path: Path) -> None:
    table = as_markdown(tmp_path, [row("a|b\n<script>", 1.0, variant="[x](y) **z**")])
    assert "| a\\|b &lt;script> · \\[x](y) \\*\\*z\\*\\* | 50 |" in table


def test_latex__is_a_booktabs_table_with_bold_marks(tmp_path: Path) -> None:
    lines = seeds("krr-st", 48.0, 50.0, 52.0) + seeds("dm", 8.0, 10.0, 12.0)
    table = latex(arranged(tmp_path, lines), ReportWarnings())
    assert r"krr-st & 50 & \textbf{50.0 $\pm$ 5.0 (3)} \\" in table
    assert r"dm & 50 & 10.0 $\pm$ 5.0 (3) \\" in table
    for once in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{lrr}"):
        assert table.count(once) == 2  # the numbers, and the differences to random images


def test_latex__names_are_only_text(tmp_path: Path) -> None:
    hostile = '[2em] \\input{/etc/passwd} 50% & $x_1^2$ #~|<>"\n\\\\ \x1b'
    keys = ("method", "variant", "source", "data", "setting", "network", "protocol")
    lines = [row("krr-st", 1.0) | dict.fromkeys(keys, hostile)]
    table = latex(arranged(tmp_path, lines), ReportWarnings(items=(printable(hostile),)))
    assert r"\input" not in table and "\x1b" not in table
    assert r"{[}2em] \textbackslash{}input\{/etc/passwd\} 50\% \& \$x\_1" in table
    (line,) = (line for line in table.splitlines() if "1.0 (1)" in line)
    assert len(re.findall(r"(?<!\\)&", line)) == 2 and line.endswith(r"\\")
    bare = "".join(map(chr, range(32, 0x3000))).translate(LATEX)
    for safe in sorted(map(str, LATEX.values()), key=len, reverse=True):
        bare = bare.replace(safe, "")
    assert not set(bare) & set("\\{}$&#_%^~")


def test_csv__has_a_line_per_cell_with_all_keys(tmp_path: Path) -> None:
    more = {"protocol": "paper", "target_kind": "soft-label", "set_bytes": 1234}
    lines = seeds("krr-st", 48.0, 50.0, 52.0, pretrain_steps=80, **more)
    plain, krr = as_csv(tmp_path, [*lines, row("random-subset", 40.0, variant='x,"y"', **more)])
    assert [line["variant"] for line in (plain, krr)] == ['x,"y"', ""]
    assert (krr["mean"], krr["std"], krr["n"]) == ("50.0", "2.0", "3")
    assert (krr["protocol"], krr["target_kind"], krr["set_bytes"]) == tuple(map(str, more.values()))
    assert float(krr["high"]) == pytest.approx(54.968, abs=1e-3)
    assert plain["low"] == "" and plain["n"] == "1"


def test_csv__names_marks_and_the_difference_to_random_images(tmp_path: Path) -> None:
    lines = seeds("krr-st", 50.0, 51.0, 52.0) + seeds("random-subset", 40.0, 41.0, 42.0)
    random, krr = as_csv(tmp_path, lines)
    assert [line["minus_random"] for line in (random, krr)] == ["", "10.0"]
    assert [line["best_within_noise"] for line in (random, krr)] == ["no", "yes"]
    assert krr["minus_random_paired"] == "yes"


def test_csv__names_are_no_formulas(tmp_path: Path) -> None:
    names = {"method": '=HYPERLINK("http://x")', "source": "@SUM(1)", "data": "+1", "network": "-2"}
    (line,) = as_csv(tmp_path, [row("krr-st", -1.0) | names])
    assert {key: line[key] for key in names} == {key: f"'{name}" for key, name in names.items()}
    assert line["mean"] == "-1.0"


def test_headline__tells_the_numbers_in_one_line(tmp_path: Path) -> None:
    lines = seeds("krr-st", 50.0, 51.0, 52.0) + seeds("random-subset", 40.0, 41.0, 42.0)
    summary = headline_of(tmp_path, lines + seeds("scratch", 17.0, 16.0, 18.0))
    assert summary.sentence == (
        "krr-st: 51.0 ± 2.5 (3), random-subset: 41.0 ± 2.5 (3), scratch: 17.0 ± 2.5 (3)"
        " [Linear probe, digits, 5 per class, output, convnet(widths=[32, 64, 128]), M = 50,"
        " mean ± half width (n)]. Difference to random images: +10.0 (10.0 to 10.0; excludes 0)"
        " points."
    )


def test_headline__says_what_is_missing(tmp_path: Path) -> None:
    assert "--method random-subset" in headline_of(tmp_path, [row("dm", 50.0)]).difference
    summary = headline_of(tmp_path, [row("scratch", 17.0)])
    assert summary.sentence == "There is no accuracy of a distilled set."


def test_headline__picks_the_middle_column_that_reads_the_output(tmp_path: Path) -> None:
    settings = [f"{k} per class, {where}" for k in (1, 5, 10) for where in ("output", "body")]
    summary = headline_of(tmp_path, [row("krr-st", 50.0, setting=s) for s in settings])
    assert "5 per class, output" in summary.where


def test_formatting__numbers() -> None:
    assert format_number(-1.25, 1) == "−1.2" and format_number(-0.01, 1) == "0.0"
    assert format_summary(summarize([49.94]), 1) == "49.9 (1)"
    assert format_summary(summarize([1.0, float("nan")]), 1) == "not finite (2)"
    gaps = [Difference(2.0, half, paired=True) for half in (1.0, 3.0, float("nan"))]
    assert [format_difference(gap, 1) for gap in gaps] == [
        "+2.0 (1.0 to 3.0; excludes 0)",
        "+2.0 (−1.0 to 5.0; includes 0)",
        "+2.0 (no interval)",
    ]
    counts = (0, 512, 61_440, 734_003_200, 1.2e9)
    assert list(map(format_bytes, counts)) == ["–", "512 B", "61.4 kB", "734 MB", "1.2 GB"]
    seconds = (0.42, 12_000, float("nan"))
    assert list(map(format_seconds, seconds)) == ["0.4 s", "3:20:00", "–"]
