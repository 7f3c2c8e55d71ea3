"""A resumed run compares what its data are, not where they lie."""

import json
import shutil
from pathlib import Path

import pytest
from commands import METHOD, NETWORK, Command
from PIL import Image


@pytest.fixture
def moved(photos: Path, tmp_path: Path) -> Path:
    """The same images in another place, under another name."""
    return Path(shutil.copytree(photos, tmp_path / "scratch" / "images"))


def change(folder: Path) -> None:
    """Replace all images of a class by others."""
    for file in (folder / "cat").iterdir():
        Image.new("RGB", (20, 24), (9, 9, 9)).save(file)


def test_distill__moved_images_are_continued_and_changed_ones_refused(
    datastill: Command, photos: Path, runs: Path, moved: Path, tmp_path: Path
) -> None:
    words = ["distill", "--count", "5", "--target", runs / "target", *METHOD, *NETWORK]
    words += ["--resume", "--out", tmp_path / "set"]
    shutil.copytree(runs / "set", tmp_path / "set")
    done = datastill(*words, "--data", f"folder:{moved}")
    assert done.code == 0 and "is finished already" in done.err, done.err
    assert f"data: folder:{photos}, now folder:{moved}" in done.err
    (tmp_path / "set" / "data.json").unlink()  # as older versions left it
    assert datastill(*words).code == 0
    change(moved)
    done = datastill(*words)
    assert done.code == 2 and "whose source images had other contents" in done.err


def test_transfer__moved_images_give_the_rows_that_were_missing(
    datastill: Command, runs: Path, moved: Path, tmp_path: Path
) -> None:
    words = ["transfer", runs / "set", "scratch", "--task", "knn-probe", "--knn-probe.k", "3"]
    words += ["--seeds", "2", "--pretrain-steps", "2", *NETWORK, "--out", tmp_path / "rows"]
    assert datastill(*words, "--to", f"folder:{moved}").code == 0
    file = tmp_path / "rows" / "rows.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:2]))
    moved = moved.rename(tmp_path / "images")
    words += ["--to", f"folder:{moved}", "--resume"]
    done = datastill(*words)
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    before = [json.loads(line) for line in lines]
    names = ("method", "data", "seed", "accuracy_percent", "settings")
    assert [[row[n] for n in names] for row in rows] == [[row[n] for n in names] for row in before]
    change(moved)
    done = datastill(*words)
    assert done.code == 2 and "whose target data 1 had other contents" in done.err
    (tmp_path / "rows" / "data.json").unlink()
    done = datastill(*words)
    assert done.code == 2 and "has rows of other images" in done.err
