"""datastill convert in real processes: from a foreign file to a transfer table."""

import subprocess
import sys
from pathlib import Path

import pytest
from commands import draw_photos
from third_party_formats import write_mtt, write_res

from datastill.cli import main
from datastill.cli.convert import make_parser
from datastill.distilled_set import DistilledSet

DATASTILL = (sys.executable, "-W", "error::DeprecationWarning:datastill", "-m", "datastill")


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [*DATASTILL, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_cli__foreign_set_is_converted_shown_and_transferred(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_mtt(tmp_path / "logged_files" / "run", channels=1, size=16)
    words = ("--format", "mtt", "--format.zca", "no", "--data", "digits", "--num-classes", "10")
    first = run("convert", path, *words, "--out", tmp_path / "set")
    assert first.returncode == 0, first.stderr
    assert first.stdout.strip() == str(tmp_path / "set" / "distilled.safetensors")
    kept = {file.name for file in (tmp_path / "set").iterdir()}
    assert kept == {"config.yaml", "environment.json", "distilled.safetensors", "preview.png"}
    assert main(["show", str(tmp_path / "set")]) == 0
    shown = capsys.readouterr().out
    assert "variant: converted" in shown and "name: images_100.pt" in shown
    tiny = ("--network", "convnet", "--network.widths", "4,8", "--pretrain-steps", "2")
    tiny += ("--linear-probe.steps", "2", "--seeds", "1")
    second = run("transfer", tmp_path / "set", "--to", "digits", *tiny)
    assert second.returncode == 0, second.stderr
    assert "| mtt · converted | 4 |" in second.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--format", "mt"), "did you mean 'mtt'"),
        (("--format.zca", "no"), "--format.zca needs --format NAME"),
        (("--format", "mtt", "--format.zca", "perhaps"), "expected no or yes"),
        (("--mean", "0.5,0.5"), "one number of each per channel"),
        (("--mean", "0.5", "--std", "0"), "expected above 0"),
        (("--pixel-space", "norm"), "expected unit, normalized or raw"),
        (("--data", "cifar"), "did you mean 'cifar10"),
        (("--target", "nowhere"), "there is no file nowhere"),
        ((), "is not an empty folder"),
    ],
)
def test_convert__bad_words_are_answered_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    path, out = write_res(tmp_path), tmp_path / "set" if words else tmp_path
    assert main(["convert", str(path), *words, "--out", str(out)]) == 2
    assert message in capsys.readouterr().err and list(tmp_path.iterdir()) == [path]
    if not words:  # one file is enough where its name says all
        assert main(["convert", str(path), "--out", str(tmp_path / "set")]) == 0
        assert DistilledSet.load(tmp_path / "set").method == "dsa"


def test_docs__every_example_is_understood() -> None:
    text = (Path(__file__).parents[2] / "docs" / "convert.md").read_text(encoding="utf-8")
    examples = [line.split()[2:] for line in text.splitlines() if line[:18] == "datastill convert "]
    assert len(examples) == 6
    for words in examples:
        make_parser(words).parse()


def test_convert__folder_as_data_leaves_no_absolute_path_in_the_artefact(tmp_path: Path) -> None:
    photos, out = draw_photos(tmp_path / "photos", per_class=2), tmp_path / "set"
    words = [str(photos), "--format", "folder", "--format.image_size", "8"]
    assert main(["convert", *words, "--data", f"folder:{photos}", "--out", str(out)]) == 0
    distilled = DistilledSet.load(out)
    assert str(tmp_path) not in str(distilled.provenance) and distilled.outputs == 3
    assert distilled.provenance["source"]["name"] == "folder:photos/train"
