"""folders and rows: what is found, what counts once, and damaged files that are named."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from synthetic_runs import row, write_lines

from datastill.core.errors import DataError
from datastill.report.folders import find_runs, read_failures, read_runs
from datastill.report.rows import read_rows


def rows_of(*folders: Path) -> tuple[pd.DataFrame, list[str]]:
    problems: list[str] = []
    return read_rows(find_runs(folders, problems), problems), problems


def test_read_rows__searches_below_all_folders_and_meets_nested_ones_once(tmp_path: Path) -> None:
    write_lines(tmp_path / "a/deep/rows.jsonl", [row("krr-st", 50.0)])
    write_lines(tmp_path / "b/rows.jsonl", [row("scratch", 17.0)])
    rows, problems = rows_of(tmp_path / "b", tmp_path, tmp_path / "a")
    assert sorted(rows["method"]) == ["krr-st", "scratch"] and problems == []


def test_read_rows__equal_rows_count_once_and_it_is_told(tmp_path: Path) -> None:
    write_lines(tmp_path / "a/rows.jsonl", [row("krr-st", 50.0), row("dm", 40.0)])
    write_lines(tmp_path / "b/rows.jsonl", [row("krr-st", 50.0)])
    rows, problems = rows_of(tmp_path)
    assert list(rows["value"]) == [40.0, 50.0]
    assert problems == ["1 row was found more than once; each measurement counts once"]


def test_read_rows__several_results_of_one_measurement_hide_none(tmp_path: Path) -> None:
    write_lines(tmp_path / "a/rows.jsonl", [row("krr-st", 50.0)])
    write_lines(tmp_path / "b/rows.jsonl", [row("krr-st", 60.0)])
    for folders in (("a", "b"), ("b", "a")):
        rows, problems = rows_of(*(tmp_path / name for name in folders))
        assert list(rows["value"]) == [55.0]
        assert "several results" in problems[0] and "krr-st on digits with seed 0" in problems[0]


def test_read_rows__hidden_folders_are_skipped_and_links_are_named(tmp_path: Path) -> None:
    write_lines(tmp_path / "runs/rows.jsonl", [row("scratch", 17.0)])
    write_lines(tmp_path / "runs/.old/rows.jsonl", [row("krr-st", 1.0)])
    write_lines(tmp_path / "there/rows.jsonl", [row("krr-st", 2.0)])
    (tmp_path / "runs/link").symlink_to(tmp_path / "there", target_is_directory=True)
    (tmp_path / "runs/inside").symlink_to(tmp_path / "runs", target_is_directory=True)
    rows, problems = rows_of(tmp_path / "runs")
    assert list(rows["method"]) == ["scratch"]
    assert len(problems) == 1 and "runs/link is a link that was not followed" in problems[0]


def test_find_runs__error_while_listing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lines(tmp_path / "a/rows.jsonl", [row("krr-st", 50.0)])
    scandir = os.scandir

    def failing(path: Any) -> Any:
        if str(path).endswith("/a"):
            raise OSError(5, "Input/output error", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    assert rows_of(tmp_path)[1] == [f"{tmp_path}/a cannot be read (Input/output error)"]


def test_find_runs__a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        find_runs([tmp_path / "none"], [])


def test_read_rows__r_squared_and_rows_without_number(tmp_path: Path) -> None:
    lines = [row("krr-st", None, r_squared=0.75, task="held-out-r2"), row("krr-st", None)]
    write_lines(tmp_path / "rows.jsonl", lines)
    rows, _ = rows_of(tmp_path)
    numbers = dict(zip(rows["is_r_squared"], rows["value"], strict=True))
    assert numbers[True] == 0.75 and math.isnan(numbers[False])


@pytest.mark.parametrize(
    "line",
    [
        '{"method": "krr-st"',
        "[1]",
        "\0\0",
        json.dumps({k: v for k, v in row("krr-st", 1.0).items() if k != "network"}),
        json.dumps(row("krr-st", 1.0) | {"seed": "first"}),
        json.dumps(row("krr-st", 1.0) | {"accuracy_percent": []}),
        json.dumps(row("krr-st", 1.0) | {"options": 3}),
        json.dumps(row("krr-st", 1.0)).replace('"count": 50', '"count": 1e400'),
    ],
)
def test_read_rows__a_broken_line_is_named_and_others_count(tmp_path: Path, line: str) -> None:
    good = json.dumps(row("dm", 40.0))
    (tmp_path / "rows.jsonl").write_text(f"{good}\n\n{line}\n")
    rows, problems = rows_of(tmp_path)
    assert list(rows["method"]) == ["dm"]
    assert len(problems) == 1 and "rows.jsonl" in problems[0] and "line 3" in problems[0]


def test_read_rows__control_characters_of_names_do_not_reach_a_terminal(tmp_path: Path) -> None:
    write_lines(tmp_path / "rows.jsonl", [row("krr\x1b[31m\n", 1.0)])
    assert rows_of(tmp_path)[0]["method"][0] == "krr [31m "


def test_read_runs__steps_repeated_after_a_resume_count_once(tmp_path: Path) -> None:
    lines = [{"step": 0, "loss": 3.0}, {"step": 1, "loss": 2.0, "age": 4}, {"step": 1, "loss": 1.5}]
    write_lines(tmp_path / "metrics.jsonl", lines)
    (run,) = read_runs(find_runs([tmp_path], []), [])
    assert list(run.metrics["loss"]) == [3.0, 1.5] and run.metrics["age"][1] == 4


def test_read_runs__damaged_files_are_named_and_count_as_missing(tmp_path: Path) -> None:
    (tmp_path / "distilled.safetensors").write_bytes(b"nothing")
    (tmp_path / "environment.json").write_text("[1]")
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "loss": 1e999}\n{"st')
    (tmp_path / "failed.json").write_text('[{"part": "a"}]')
    os.mkfifo(tmp_path / "phases.jsonl")
    problems: list[str] = []
    locations = find_runs([tmp_path], problems)
    (run,) = read_runs(locations, problems)
    assert (run.after, run.environment, run.phases) == (None, {}, [])
    assert read_failures(locations, problems) == []
    for name in ("distilled.s", "environment.json", "metrics.jsonl", "failed.json"):
        assert sum(name in problem for problem in problems) == 1, name
