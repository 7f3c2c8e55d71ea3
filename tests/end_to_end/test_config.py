"""config.yaml of a run folder, given to --config, makes the same run; flags win over it."""

from pathlib import Path

import pytest
import yaml
from commands import Command
from factories import KilledError, killed_at

from datastill.core.machine import Machine
from datastill.distilled_set import DistilledSet
from datastill.methods.krr_st import KRRST


@pytest.fixture
def config(runs: Path) -> Path:
    return runs / "set" / "config.yaml"


@pytest.mark.parametrize(
    ("verb", "folder", "file"),
    [
        ("target", "target", "target.safetensors"),
        ("distill", "set", "distilled.safetensors"),
    ],
)
def test_cli__config_of_a_run_folder_makes_the_same_file(
    verb: str, folder: str, file: str, datastill: Command, runs: Path, tmp_path: Path
) -> None:
    config = runs / folder / "config.yaml"
    assert datastill(verb, "--config", config, "--out", tmp_path / "again").code == 0
    assert (tmp_path / "again" / file).read_bytes() == (runs / folder / file).read_bytes()
    assert (tmp_path / "again" / "config.yaml").read_text() == config.read_text()


def test_cli__config_of_a_transfer_folder_makes_the_same_rows(
    datastill: Command, runs: Path, photos: Path, tmp_path: Path
) -> None:
    words = ("transfer", runs / "set", "scratch", "--to", f"folder:{photos}", "--seeds", "1")
    words += ("--pretrain-steps", "2", "--linear-probe.steps", "2")
    first = datastill(*words, "--out", tmp_path / "first")
    config = tmp_path / "first" / "config.yaml"
    again = datastill("transfer", "--config", config, "--out", tmp_path / "again")
    assert (first.code, again.code, again.out) == (0, 0, first.out)


def test_cli__resume_of_a_finished_run_changes_nothing(
    datastill: Command, config: Path, tmp_path: Path
) -> None:
    words = ("distill", "--config", config, "--out", tmp_path / "set")
    first = datastill(*words)
    before = {file.name: file.read_bytes() for file in (tmp_path / "set").iterdir()}
    again = datastill(*words, "--resume")
    after = {file.name: file.read_bytes() for file in (tmp_path / "set").iterdir()}
    assert "is finished already" in again.err and again.out == first.out
    assert before == after


@pytest.mark.parametrize(
    "method",
    [
        "!!python/object/apply:os.system ['touch owned']",
        "{class_path: os.system, init_args: {command: touch owned}}",
        "{name: os.system}",
        "{name: krr-st, pixel_space: {class_path: pathlib.Path.touch, init_args: {self: owned}}}",
        "../../owned",
    ],
)
def test_cli__config_cannot_name_anything_but_our_own_components(
    datastill: Command,
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    """There is no flag that would allow it: nothing but a component of the package is imported."""
    monkeypatch.chdir(tmp_path)
    lines = config.read_text().split("method:\n")[0] + f"method: {method}\n"
    (tmp_path / "hostile.yaml").write_text(lines)
    done = datastill("distill", "--config", tmp_path / "hostile.yaml", "--out", tmp_path / "set")
    assert done.code == 2 and "Traceback" not in done.err, done.err
    assert [file.name for file in tmp_path.iterdir()] == ["hostile.yaml"]


def test_cli__resume_keeps_the_precision_of_the_run(
    datastill: Command, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    precision = yaml.safe_load(config.read_text())["precision"]
    other = {"float32": "bfloat16", "bfloat16": "float32"}[precision]
    out = tmp_path / "set"
    words = ("distill", "--config", config, "--precision", other, "--out", out)
    with monkeypatch.context() as patch:
        patch.setattr(KRRST, "step", killed_at(2, KRRST.step))
        with pytest.raises(KilledError):
            datastill(*words, "--checkpoint-seconds", "0")
    assert datastill("distill", "--resume", "--out", out).code == 0
    assert yaml.safe_load((out / "config.yaml").read_text())["precision"] == other
    assert DistilledSet.load(out).provenance["precision"] == other


def test_cli__says_which_precision_was_found(
    datastill: Command, config: Path, tmp_path: Path
) -> None:
    words = ("distill", "--config", config, "--out")
    automatic = datastill(*words, tmp_path / "automatic", "--precision", "auto").err
    precision = Machine.find("cpu", "auto").precision
    assert yaml.safe_load(config.read_text())["precision"] == precision
    assert f"networks compute in {precision}" in automatic
    assert "networks compute in" not in datastill(*words, tmp_path / "given").err
