"""build, page and charts: a page that stands alone, whatever is missing and whoever chose names."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from synthetic_grid import table_1, whole_grid, write_grid
from synthetic_runs import arranged, distilled_set, row, seeds, write_lines

from datastill.core.errors import DataError
from datastill.report.build import ReportFiles, build
from datastill.report.charts import curves, scatter_plots
from datastill.report.folders import find_runs, read_runs
from datastill.report.formatting import METHODS

HOSTILE = "<script>alert(1)</script>\"' $x^2$ \x1b & {{ 7*7 }}"


class Attributes(HTMLParser):
    """All (tag, attribute, value) of a page, and a check that tags are closed in order."""

    VOID = frozenset({"meta", "img", "link", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page__asks_nothing_of_any_network(report: ReportFiles) -> None:
    text = report.page.read_text("utf-8")
    for tag, name, value in Attributes(text).attributes:
        if name in ("src", "href", "srcset", "action", "data", "poster"):
            assert tag == "img" and value.startswith("data:image/"), (tag, name, value[:80])
            drawing = unquote(value)
            assert not re.findall(r"url\((?!#)|href=.(?!#)|@import|<script|<image", drawing)
    page = re.sub(r'src="data:image/[^"]*"', "", text)
    assert not re.findall(r"url\(|@import|<script|<link|<iframe|https?://", page)


def test_page__has_tables_runs_and_configurations(report: ReportFiles) -> None:
    assert report.headline.startswith("krr-st: ")
    text = report.page.read_text("utf-8")
    for expected in (
        "Transfer from glyphs",
        "Fine-tuning",
        "Held-out R²",
        "Difference to random images",
        *("Outer loss", "Age of the inner model used"),
        "734 MB",
        "datastill run quick",
        "objective: barlow-twins",
        "0123abc",
        "After, 50 images",
    ):
        assert expected in text, expected


def test_build__minutes_are_those_of_the_set_and_of_pre_training(tmp_path: Path) -> None:
    made = distilled_set(torch.rand(4, 1, 8, 8))
    (tmp_path / "set").mkdir()
    made.save(tmp_path / "set" / "distilled.safetensors")
    phases = [{"phase": name, "wall_seconds": 60.0} for name in ("warm-up", "distill")]
    write_lines(tmp_path / "set" / "phases.jsonl", phases)
    trained = {"pretrain_seconds": 30.0}
    lines = [
        row("krr-st", 50.0, artefact=made.fingerprint, **trained),
        row("dm", 50.0, artefact="elsewhere", **trained),
        row("full-source", 60.0, artefact="all", **trained),
    ]
    write_lines(tmp_path / "rows.jsonl", lines)
    table = build([tmp_path], tmp_path / "report").table_markdown.read_text("utf-8")
    assert "| M | minutes | digits |" in table
    for expected in ("dm | 50 | –", "krr-st | 50 | 2.5", "full-source | – | 0.50"):
        assert f"| {expected} |" in table


def test_build__order_of_rows_and_folders_does_not_matter(tmp_path: Path) -> None:
    rows = [line for line in table_1() if line["data"] == "cub"] + [row("dm", 30.0)]
    contents = []
    for name, lines in (("a", rows), ("b", rows[::-1])):
        run = write_grid(tmp_path / name / "run", lines)
        files = build([run], tmp_path / name / "report")
        paths = (files.table_markdown, files.table_csv, files.table_latex, files.page)
        contents.append([path.read_bytes() for path in (*paths, *files.figures)])
    assert contents[0] == contents[1]
    assert not re.search(rb"\b(nan|inf)\b", b"".join(contents[0][:3]), re.IGNORECASE)


def test_build__hostile_names_are_only_text(tmp_path: Path) -> None:
    keys = ("method", "variant", "source", "data", "task", "setting", "network")
    hostile = dict.fromkeys(keys, HOSTILE)
    lines = [row("", 1.0) | hostile, row("", None) | hostile | {"network": "b"}]
    write_lines(tmp_path / "rows.jsonl", lines)
    write_lines(tmp_path / "phases.jsonl", [{"phase": HOSTILE, "wall_seconds": "1 s"}])
    (tmp_path / "config.yaml").write_text(HOSTILE)
    (tmp_path / "environment.json").write_text('{"x": "\\ud800"}')
    (tmp_path / "failed.json").write_text(json.dumps([{"part": HOSTILE, "error": HOSTILE}]))
    files = build([tmp_path], tmp_path / "report")
    text = files.page.read_text("utf-8")
    assert "<script" not in unquote(text) and "&lt;script&gt;" in text and "not finite" in text
    assert "<script" not in files.table_markdown.read_text("utf-8")
    Attributes(text)


def test_build__a_whole_table_1_is_one_file_that_can_be_mailed(tmp_path: Path) -> None:
    files = build([write_grid(tmp_path / "run", table_1())], tmp_path / "report")
    assert files.page.stat().st_size < 500_000
    assert [file.suffix for file in files.figures] == [".png", ".svg"]


def test_build__figures_of_an_earlier_report_go(tmp_path: Path) -> None:
    old = tmp_path / "report" / "figures" / "sizes-77-cub.png"
    mine = old.with_name("mine.png")
    old.parent.mkdir(parents=True)
    old.touch()
    mine.touch()
    write_lines(tmp_path / "rows.jsonl", [row("scratch", 17.0)])
    build([tmp_path], tmp_path / "report")
    assert mine.exists() and not old.exists()


def test_build__without_rows_names_what_failed_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "failed.json").write_text(json.dumps([{"part": "dsa", "error": "no space"}]))
    (tmp_path / "rows.jsonl").write_text("{")
    with pytest.raises(DataError, match=r"no rows.*failed: dsa in .*no space.*rows\.jsonl"):
        build([tmp_path], tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_build__warnings_come_before_all_numbers(tmp_path: Path) -> None:
    write_lines(tmp_path / "run" / "rows.jsonl", seeds("krr-st", 1.0, 2.0, 3.0))
    for folder in ("run", "run/part"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "config.yaml").write_text("recipe: quick\nscale: smoke\n")
    failed = [{"part": "dsa, seed 2", "error": "out of <memory>"}]
    (tmp_path / "run" / "failed.json").write_text(json.dumps(failed))
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 1, "lo')
    files = build([tmp_path / "run"], tmp_path / "report")
    smoke = "These numbers mean nothing: smoke scale, miniature data and a few steps (run)."
    text = files.table_markdown.read_text("utf-8")
    assert text.startswith(f"**{smoke}**") and files.headline.startswith(smoke)
    assert "**Incomplete: 1 part(s) failed" in text
    assert "- failed: dsa, seed 2 in run: out of &lt;memory>" in text
    assert "metrics.jsonl has 1 broken line(s)" in text
    page, tex = files.page.read_text("utf-8"), files.table_latex.read_text("utf-8")
    for text in (page, tex):
        numbers = text.index("2.0 ")
        assert text.index("mean nothing") < text.index("dsa, seed 2 in run") < numbers


@pytest.mark.parametrize("config", ["scale: full\n", "a: {scale: smoke}\n", "[smoke\n"])
def test_build__rows_alone_of_no_smoke_run_have_no_warning(tmp_path: Path, config: str) -> None:
    write_lines(tmp_path / "rows.jsonl", [row("scratch", 17.0)])
    (tmp_path / "config.yaml").write_text(config)
    distilled_set(torch.rand(120, 3, 8, 8)).save(tmp_path / "distilled.safetensors")
    files = build([tmp_path], tmp_path / "report")
    assert files.table_markdown.read_text("utf-8").startswith("# Transfer")
    page = files.page.read_text("utf-8")
    for expected in ("no accuracy of a distilled set.", "No command was", "After, 120 images"):
        assert expected in page
    Attributes(page)


def test_scatter_plots__compare_networks_and_lengths(tmp_path: Path) -> None:
    methods = {("krr-st", ""), ("mtt", "")}
    rows = [
        r for r in whole_grid() if r["data"] == "cub" and (r["method"], r["variant"]) in methods
    ]
    tables = arranged(tmp_path, rows)
    plots = scatter_plots(tables)
    kinds = [plot.kind for plot in plots]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "results": len(tables),
        "networks": 1,
        "lengths": 1,
    }
    assert [plot.title for plot in plots if plot.kind == "results"] == [t.heading for t in tables]
    for plot in plots:
        assert plot.png.startswith(b"\x89PNG")
    names = [plot.name for plot in plots]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z0-9-]+", name) for name in names)
    assert len(set(METHODS.values())) == len(METHODS)


def test_scatter_plots__draw_accuracy_over_bytes_where_a_row_has_two_sizes(tmp_path: Path) -> None:
    sizes = (20_000, 80_000, 1_600_000)
    coded = {"settings": {"stored": "avif, 9 bytes, 16 pixels, int8"}}
    lines = [row("krr-st", 50.0, set_bytes=size, count=size // 200, **coded) for size in sizes]
    lines += [row("dm", 40.0, set_bytes=80_000), row("full-source", 60.0, set_bytes=10**9)]
    (plot,) = (x for x in scatter_plots(arranged(tmp_path, lines)) if x.kind == "sizes")
    texts = re.findall("<text[^>]*>([^<]*)</text>", plot.svg)
    assert {"krr-st, coded", "dm", "full-source", "size of the distilled set"} <= {*texts}
    assert "100 kB" in texts and not [text for text in texts if text.endswith(" GB")]
    one_size = [line for line in lines if line["set_bytes"] >= 80_000]
    one_size = [line for line in one_size if line["set_bytes"] != 1_600_000]
    kinds = [x.kind for x in scatter_plots(arranged(tmp_path, one_size))]
    assert "sizes" not in kinds


def test_curves__of_many_steps_with_odd_losses_stay_small_files(tmp_path: Path) -> None:
    values = [1.0, 0.0, -1.0, float("nan"), float("inf"), 0.5, 1e-300, 1e300]
    ages = np.random.default_rng(0).integers(0, 1000, 30_000).tolist()
    values += [1.0 + age for age in ages[len(values) :]]
    lines = [
        {"step": k, "outer_loss": x, "age": age}
        for k, (x, age) in enumerate(zip(values, ages, strict=True))
    ]
    write_lines(tmp_path / "metrics.jsonl", lines)
    (run,) = read_runs(find_runs([tmp_path], []), [])
    drawn = curves(run)
    assert len(drawn) == 2 and all(len(uri) < 400_000 for _, uri, _ in drawn)
