"""rows, search and json_lines: what is found, what counts, what is refused."""

import json
import math
from pathlib import Path

import pytest
from synthetic_runs import row, write_lines

from datastill.ground.errors import DataError
from datastill.report.rows import read_rows


def test_read_rows__searches_below_all_folders(tmp_path: Path) -> None:
    write_lines(tmp_path / "a/deep/rows.jsonl", [row("krr-st", 50.0)])
    write_lines(tmp_path / "b/rows.jsonl", [row("scratch", 17.0)])
    methods = [r.method for r in read_rows([tmp_path / "b", tmp_path / "a"])]
    assert methods == ["scratch", "krr-st"]


def test_read_rows__meets_nested_folders_once_and_last_rows_win(tmp_path: Path) -> None:
    write_lines(tmp_path / "a/rows.jsonl", [row("krr-st", 50.0), row("krr-st", 51.0)])
    (found,) = read_rows([tmp_path, tmp_path / "a"])
    assert found.value == 51.0


def test_read_rows__another_distilled_set_is_another_measurement(tmp_path: Path) -> None:
    lines = [row("krr-st", 50.0, artefact="one"), row("krr-st", 51.0, artefact="two")]
    write_lines(tmp_path / "rows.jsonl", lines)
    assert len(read_rows([tmp_path])) == 2


def test_read_rows__skips_hidden_folders_and_links(tmp_path: Path) -> None:
    write_lines(tmp_path / "here/rows.jsonl", [row("scratch", 17.0)])
    write_lines(tmp_path / "here/.old/rows.jsonl", [row("krr-st", 1.0)])
    write_lines(tmp_path / "there/rows.jsonl", [row("krr-st", 2.0)])
    (tmp_path / "here/link").symlink_to(tmp_path / "there", target_is_directory=True)
    (tmp_path / "here/file").mkdir()
    (tmp_path / "here/file/rows.jsonl").symlink_to(tmp_path / "there/rows.jsonl")
    assert [r.method for r in read_rows([tmp_path / "here"])] == ["scratch"]


def test_read_rows__r_squared_is_read_where_there_is_no_accuracy(tmp_path: Path) -> None:
    lines = [row("krr-st", None, r_squared=0.75, task="held-out-r2"), row("krr-st", 50.0)]
    write_lines(tmp_path / "rows.jsonl", lines)
    assert [(r.value, r.is_r_squared) for r in read_rows([tmp_path])] == [
        (0.75, True),
        (50.0, False),
    ]


def test_read_rows__a_row_without_number_is_kept_as_not_finite(tmp_path: Path) -> None:
    write_lines(tmp_path / "rows.jsonl", [row("krr-st", None)])
    (found,) = read_rows([tmp_path])
    assert math.isnan(found.value) and not found.is_r_squared


def test_read_rows__nothing_found_names_folders_and_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"searched .*datastill transfer") as error:
        read_rows([tmp_path])
    assert str(tmp_path) in str(error.value)


def test_read_rows__missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        read_rows([tmp_path / "nowhere"])


@pytest.mark.parametrize("broken", ['{"method": "krr', "[1, 2]", "\udcff"])
def test_read_rows__broken_line_names_file_and_number(tmp_path: Path, broken: str) -> None:
    text = json.dumps(row("scratch", 17.0)) + "\n\n" + broken + "\n"
    (tmp_path / "rows.jsonl").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=r"rows\.jsonl, line 3 "):
        read_rows([tmp_path])


@pytest.mark.parametrize(
    ("change", "words"),
    [({"seed": "first"}, "no transfer row"), ({"accuracy_percent": []}, "no transfer row")],
)
def test_read_rows__wrong_values_are_refused(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    write_lines(tmp_path / "rows.jsonl", [row("krr-st", 50.0) | change])
    with pytest.raises(DataError, match=words):
        read_rows([tmp_path])


def test_read_rows__a_missing_key_is_named(tmp_path: Path) -> None:
    line = row("krr-st", 50.0)
    del line["network"]
    write_lines(tmp_path / "rows.jsonl", [line])
    with pytest.raises(DataError, match="no 'network'"):
        read_rows([tmp_path])
