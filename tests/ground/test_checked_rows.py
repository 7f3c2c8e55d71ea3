"""Rows with checksums: whatever was half written, damaged or of another key is not used."""

import multiprocessing
import random
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from reliability import Figures

from datastill.ground.checked_rows import CheckedRows
from datastill.ground.errors import DataError

COUNT, WIDTH = 50, 8
FACTS = {"of": "one"}
EVERY = np.arange(COUNT)


def opened(folder: Path, facts: dict[str, str] = FACTS, *, count: int = COUNT) -> CheckedRows:
    return CheckedRows.open(folder, facts, count=count, width=WIDTH)


def right(numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Row n has the bytes n, n + 1, ..."""
    return (numbers[:, None] + np.arange(WIDTH)).astype(np.uint8)


@contextmanager
def little_space() -> Iterator[None]:
    """No file may be longer than 100 bytes: a disk that is full when a row is half written.

    No fixture: what pytest prints between a test and the end of its fixtures may go to a file.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def some(tmp_path: Path) -> tuple[Path, NDArray[np.int64]]:
    """A folder, and the rows that were written there: in no order, some side by side."""
    numbers = np.array([7, 3, 4, 5, 49, 0])
    opened(tmp_path).write(numbers, right(numbers))
    return tmp_path, numbers


def test_rows__are_found_by_whoever_opens_them(some: tuple[Path, NDArray[np.int64]]) -> None:
    again = opened(some[0])
    assert np.flatnonzero(again.sound(EVERY)).tolist() == sorted(some[1].tolist())
    assert (again.map()[some[1]] == right(some[1])).all()


def test_rows__are_seen_by_those_who_opened_before(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    assert not other.sound(EVERY).any()
    one.write(EVERY, right(EVERY))
    assert other.sound(EVERY).all() and (other.map()[EVERY] == right(EVERY)).all()


def test_rows__none_is_written(tmp_path: Path) -> None:
    rows = opened(tmp_path)
    rows.write(EVERY[:0], right(EVERY[:0]))
    assert not rows.sound(EVERY).any() and not rows.sound(EVERY[:0]).size


def test_rows__say_what_they_are_of(tmp_path: Path) -> None:
    opened(tmp_path)
    assert (tmp_path / "facts.json").read_text() == '{\n  "of": "one"\n}\n'


def test_rows__take_room_only_where_they_were_written(tmp_path: Path) -> None:
    rows = CheckedRows.open(tmp_path, FACTS, count=1_000_000, width=1000)
    rows.write(np.array([999_999]), np.ones((1, 1000), np.uint8))
    assert (tmp_path / "rows").stat().st_size == 10**9
    assert sum(file.stat().st_blocks * 512 for file in tmp_path.iterdir()) < 100_000


def test_rows__any_changed_bit_is_noticed(
    some: tuple[Path, NDArray[np.int64]], figures: Figures
) -> None:
    file, flips = some[0] / "rows", 0
    for byte in range(3 * WIDTH, 6 * WIDTH):
        for bit in range(8):
            whole = file.read_bytes()
            changed = bytearray(whole)
            changed[byte] ^= 1 << bit
            file.write_bytes(changed)
            sound = opened(some[0]).sound(EVERY)
            assert not sound[byte // WIDTH] and sound.sum() == len(some[1]) - 1
            file.write_bytes(whole)
            flips += 1
    figures.add("bits flipped in kept representations", f"{flips}: 0 used")


@pytest.mark.parametrize("name", ["rows", "sums"])
def test_rows__of_which_a_file_was_cut_off_or_lost_are_made_again(
    some: tuple[Path, NDArray[np.int64]], name: str
) -> None:
    file = some[0] / name
    file.write_bytes(file.read_bytes()[: 4 * file.stat().st_size // COUNT])
    assert np.flatnonzero(opened(some[0]).sound(EVERY)).tolist() == [0, 3]
    before = opened(some[0])
    file.unlink()
    with pytest.raises(FileNotFoundError):
        before.sound(EVERY)
    assert not opened(some[0]).sound(EVERY).any()


def test_rows__of_another_key_are_not_used(
    some: tuple[Path, NDArray[np.int64]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    shutil.copytree(some[0], other, dirs_exist_ok=True)
    assert opened(other).sound(EVERY).any()
    assert not opened(other, {"of": "another"}).sound(EVERY).any()


def test_rows__that_are_all_zero_are_rows(tmp_path: Path) -> None:
    rows = opened(tmp_path)
    rows.write(EVERY[:1], np.zeros((1, WIDTH), np.uint8))
    assert rows.sound(EVERY).tolist() == [True] + [False] * (COUNT - 1)


def test_rows__where_no_folder_can_be_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file cannot be written: File exists"):
        opened(tmp_path / "file")


@pytest.mark.parametrize("first", [0, 5, 40])
def test_rows__that_find_no_space_are_not_used(first: int, tmp_path: Path) -> None:
    rows, numbers = opened(tmp_path), EVERY[first:]
    rows.write(EVERY[:2], right(EVERY[:2]))
    with pytest.raises(OSError, match=r"disk is full|File too large"), little_space():
        rows.write(numbers, right(numbers))
    assert np.flatnonzero(rows.sound(EVERY)).tolist() == [0, 1]


def write_for_ever(folder: Path, count: int) -> None:
    """Rows in an order that differs between processes, again and again."""
    rows, every = opened(folder, count=count), np.arange(count)
    order = np.random.default_rng(time.time_ns())
    while True:
        part = order.permutation(every)[:100]
        rows.write(part, right(part))


def started(folder: Path, count: int) -> BaseProcess:
    process = multiprocessing.get_context("fork").Process(
        target=write_for_ever, args=(folder, count)
    )
    process.start()
    return process


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("times", [10, pytest.param(200, marks=pytest.mark.torture)])
def test_rows__survive_kills_of_two_who_write(tmp_path: Path, times: int, figures: Figures) -> None:
    count, moments, found = 20_000, random.Random(0), 0
    every = np.arange(count)
    for number in range(times):
        folder = tmp_path / str(number)
        both = [started(folder, count), started(folder, count)]
        time.sleep(moments.uniform(0.02, 0.06))
        for process in both:
            process.kill()
            process.join()
        rows = opened(folder, count=count)
        sound = every[rows.sound(every)]
        assert (rows.map()[sound] == right(sound)).all()
        found += len(sound)
        shutil.rmtree(folder)
    assert found
    figures.add(
        "kill -9 of two processes that fill one bank",
        f"{2 * times} kills, {found} rows kept: 0 of them wrong",
    )
