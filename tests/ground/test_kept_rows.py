"""Kept rows: what is kept, for whom, and where a device's memory stands before the file."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from datastill.ground.checked_rows import CheckedRows
from datastill.ground.kept_rows import KeptRows

COUNT, WIDTH = 20, 3
EVERY = torch.arange(COUNT)
LIKE = torch.empty(0, WIDTH, dtype=torch.float16)


def values(row: Tensor) -> Tensor:
    return (row[:, None] + torch.arange(WIDTH) / 4).half()


def kept(folder: Path | None = None, *, room: int = COUNT, apart: bool = False) -> KeptRows:
    """Rows in memory or in a file; `apart` as on a device, whose memory is not the file."""
    file = folder and CheckedRows.open(folder, {}, count=COUNT, width=2 * WIDTH)
    made = KeptRows(COUNT, room, LIKE, file)
    if apart:
        made.mapped, made.memory = False, LIKE.new_empty(room, WIDTH)
    return made


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("in_file", [False, True])
def test_rows__that_were_put_are_got(in_file: bool, apart: bool, tmp_path: Path) -> None:
    rows, row = kept(tmp_path if in_file else None, apart=apart), torch.tensor([4, 0, 19])
    assert not rows.find(EVERY).any() and rows.left == COUNT
    rows.put(row, values(row))
    assert torch.nonzero(rows.find(EVERY)).flatten().tolist() == [0, 4, 19]
    asked = torch.tensor([19, 4, 4])
    assert torch.equal(rows.get(asked), values(asked)) and rows.left == COUNT - 3
    rows.put(EVERY, values(EVERY))
    assert rows.whole and torch.equal(rows.get(EVERY), values(EVERY))


@pytest.mark.parametrize("apart", [False, True])
def test_rows__of_others_are_taken_over(apart: bool, tmp_path: Path) -> None:
    mine, other = kept(tmp_path, apart=apart), kept(tmp_path)
    other.put(EVERY[5:10], values(EVERY[5:10]))
    twice = torch.tensor([7, 7, 2])
    assert mine.find(twice).tolist() == [True, True, False] and mine.left == COUNT - 1
    assert torch.equal(mine.get(twice[:2]), values(twice[:2]))


@pytest.mark.parametrize("in_file", [False, True])
def test_rows__beyond_the_room_or_not_finite_are_not_kept(in_file: bool, tmp_path: Path) -> None:
    rows, bad = kept(tmp_path if in_file else None, room=10), values(EVERY)
    bad[3, 1], bad[4, 0] = torch.nan, torch.inf
    rows.put(EVERY, bad)
    assert torch.nonzero(~rows.find(EVERY)).flatten().tolist() == [3, 4, *range(10, COUNT)]
    assert not rows.whole and rows.left == 12
    if not in_file:
        assert rows.memory.shape == (10, WIDTH)
        return
    later = kept(tmp_path)
    assert later.find(EVERY).sum() == 8


@pytest.mark.parametrize("apart", [False, True])
def test_rows__where_the_file_is_gone_are_kept_in_memory_of_their_own_or_not_at_all(
    apart: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = kept(tmp_path, apart=apart)
    rows.put(EVERY[:5], values(EVERY[:5]))
    for file in tmp_path.iterdir():
        file.unlink()
    for part in (EVERY[5:10], EVERY[10:15]):
        rows.put(part, values(part))
    known = torch.nonzero(rows.find(EVERY)).flatten()
    assert known.tolist() == list(range(15 if apart else 5))
    assert torch.equal(rows.get(known), values(known))
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "cannot be used on: No such file or directory" in said
    assert ("kept in memory only" in said) == apart


def test_rows__in_a_file_are_not_copied_to_memory(tmp_path: Path) -> None:
    rows = kept(tmp_path)
    rows.put(EVERY, values(EVERY))
    assert rows.file is not None
    rows.file.map()[7] = 0
    assert not rows.get(EVERY[7:8]).any() and rows.get(EVERY[8:9]).any()
