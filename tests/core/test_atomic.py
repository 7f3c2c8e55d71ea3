"""Files appear whole or not at all."""

import os
import platform
import stat
import subprocess
from pathlib import Path

import pytest

from datastill.core import atomic
from datastill.core.atomic import atomic_write, remove_stale_tempfiles, write_text
from datastill.core.errors import DataError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_text(tmp_path / "folder" / "file.txt", "old")
    return tmp_path / "folder" / "file.txt"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_atomic_write__crash_inside_leaves_the_old_file_alone(
    file: Path, error: type[BaseException]
) -> None:
    with pytest.raises(error), atomic_write(file) as part:
        part.write_text("half")
        raise error
    assert file.read_text() == "old" and list(file.parent.iterdir()) == [file]


def test_atomic_write__nothing_is_seen_before_the_end(file: Path) -> None:
    with atomic_write(file) as part:
        part.write_text("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new"


def test_atomic_write__is_flushed_before_and_after_it_is_renamed(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    replace, fsync = Path.replace, os.fsync

    def flushed(descriptor: int) -> None:
        seen.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def renamed(part: Path, path: Path) -> Path:
        seen.append("renamed")
        return replace(part, path)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", renamed)
    write_text(file, "new")
    assert seen == ["file", "renamed", "folder"]


def test_remove_stale_tempfiles__removes_what_dead_processes_left_and_nothing_else(
    file: Path,
) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    host = platform.node()
    names = (f".a.{dead.pid}@{host}.part", f".a.{os.getpid()}@{host}.part", f".a.{dead.pid}@x.part")
    for name in names:
        (file.parent / name).touch()
    remove_stale_tempfiles(file.parent)
    assert {path.name for path in file.parent.iterdir()} == {file.name, *names[1:]}


def test_atomic_write__full_disk_is_a_data_error_and_leaves_no_part(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "_flush", full)
    with pytest.raises(DataError, match=r"file\.txt cannot be written: No space left"):
        write_text(file, "new")
    assert file.read_text() == "old" and list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("path", ["file.txt/below", "."])
def test_atomic_write__path_that_cannot_be_a_file_is_a_data_error(file: Path, path: str) -> None:
    with pytest.raises(DataError, match="cannot be written"):
        write_text(file.parent / path, "new")
