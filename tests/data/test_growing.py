"""Preparation in chunks: killed, beside another process, with little memory, on a full disk."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from archives import random_images, write_archive, write_batch

from datastill.core.errors import DataError
from datastill.data import cache
from datastill.data.cache import Prepared, append_resumable
from datastill.data.check import prepare
from datastill.data.imagenet import BATCHES, ImageNet

FOUR_IMAGES = 4 * 3 * 16 * 16  # bytes
DEADLINE_SECONDS = 120.0
SLOW_READER = """
import os, signal, sys, time
from pathlib import Path
from datastill.data import cache
from datastill.data._imagenet_batches import Batch
from datastill.data.imagenet import ImageNet

cache.CHUNK_BYTES = int(sys.argv[1])
root, reads, read_batch = Path(sys.argv[2]), [], Batch.read

def read(self, start, stop):
    reads.append(start)
    {hook}
    return read_batch(self, start, stop)

Batch.read = read
ImageNet().load("train", 16, root)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_archive("imagenet", tmp_path / "official")
    return tmp_path / "official"


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "CHUNK_BYTES", FOUR_IMAGES)


def started(hook: str, root: Path) -> subprocess.Popen[str]:
    """A process that prepares training images, four at a time, and runs `hook` at every read."""
    command = [sys.executable, "-c", SLOW_READER.format(hook=hook), str(FOUR_IMAGES), str(root)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def content(place: Prepared) -> dict[str, bytes]:
    """Everything that was prepared, by file name."""
    files = [file for file in place.folder.iterdir() if not file.name.startswith(".")]
    return {file.name: file.read_bytes() for file in files}


@pytest.mark.usefixtures("small_chunks")
def test_prepare__killed_process_leaves_nothing_prepared_and_is_continued(
    root: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    process = started("if len(reads) == 9: os.kill(os.getpid(), signal.SIGKILL)", root)
    process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == -signal.SIGKILL
    place = ImageNet().prepared("train", 16)
    assert content(place) == {}
    prepare(ImageNet(), 16, root)
    # four chunks were written, two batches in each; the last may not have reached the disk
    said = "prepare imagenet/train: continuing after 12 of 20 images"
    assert said in capsys.readouterr().err
    resumed = content(place)
    monkeypatch.setenv("DATASTILL_CACHE", str(tmp_path / "unbroken"))
    prepare(ImageNet(), 16, root)
    assert resumed == content(ImageNet().prepared("train", 16))
    assert not list(place.folder.glob(".*.part"))


def test_prepare__second_process_waits_for_the_first(root: Path, tmp_path: Path) -> None:
    reading, go = tmp_path / "reading", tmp_path / "go"
    wait = f"Path('{reading}').touch()\n    while not Path('{go}').exists(): time.sleep(0.01)"
    first = started(wait, root)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not reading.exists():
        assert time.monotonic() < deadline and first.poll() is None, first.communicate()[1]
        time.sleep(0.01)
    second = started("raise SystemExit('read again')", root)
    assert second.stderr is not None
    lines = iter(second.stderr.readline, "")
    assert any("another process is making it; waiting" in line for line in lines)
    go.touch()
    for process in (first, second):
        assert process.communicate(timeout=DEADLINE_SECONDS) and process.returncode == 0
    place = ImageNet().prepared("train", 16)
    assert place.verify()
    assert len(ImageNet().load("train", 16, root)) == 20


def test_prepare__memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    for count in (100, 600):
        for name in (*BATCHES["train"], *BATCHES["test"]):
            images = np.zeros((count, 3, 64, 64), np.uint8)
            write_batch(tmp_path / str(count) / name, images, [1] * count)
    code = """
import resource, sys
from pathlib import Path
from datastill.data import cache
from datastill.data.imagenet import ImageNet

def peak(count):
    ImageNet().load("train", 64, Path(sys.argv[1]) / str(count))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

cache.CHUNK_BYTES = 1 << 20
print(1024 * (-peak(100) + peak(600)))
"""
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 30e6 < 10 * 500 * 3 * 64 * 64


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("kept", [0, 1, 127, 128, 3000, 6000, 6272, 6400, 9999, -1, None])
def test_append_resumable__continues_from_any_number_of_bytes(
    tmp_path: Path, kept: int | None
) -> None:
    images = random_images(18, 16)
    np.save(tmp_path / "whole.npy", images)
    whole = (tmp_path / "whole.npy").read_bytes()
    (tmp_path / "part").write_bytes(whole[:kept])
    append_resumable(tmp_path / "part", images, "test")
    assert (tmp_path / "part").read_bytes() == whole
    # the chunk that was written last is not trusted
    (tmp_path / "part").write_bytes(whole[: 128 + 2 * FOUR_IMAGES] + bytes(FOUR_IMAGES))
    append_resumable(tmp_path / "part", images, "test")
    assert (tmp_path / "part").read_bytes() == whole


@pytest.mark.usefixtures("small_chunks")
def test_prepare__full_disk_is_told_and_what_was_written_is_kept(
    root: Path, monkeypatch, capsys
) -> None:
    calls: list[int] = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(DataError, match=r"cannot be written: No space left on device"):
            ImageNet().load("train", 16, root)
    assert content(ImageNet().prepared("train", 16)) == {}
    assert len(ImageNet().load("train", 16, root)) == 20
    assert "continuing after 12 of 20" in capsys.readouterr().err


@pytest.mark.usefixtures("small_chunks")
def test_prepare__part_of_other_files_is_not_continued(root: Path, capsys) -> None:
    batch = root / "imagenet" / "train_data_batch_10"
    content = batch.read_bytes()
    batch.write_bytes(content[:-40])
    with pytest.raises(DataError, match="train_data_batch_10"):
        ImageNet().load("train", 16, root)
    stale = ImageNet().prepared("train", 16).folder / ".train.images.12345678.part"
    stale.write_bytes(bytes(20_000))
    batch.write_bytes(content)
    assert len(ImageNet().load("train", 16, root)) == 20
    assert "continuing" not in capsys.readouterr().err
    assert not stale.exists()
