"""config.yaml of a run folder, given to --config, makes the same run; flags win over it."""

from pathlib import Path

import pytest
import yaml
from commands import Command

from datastill.artefact import DistilledSet


@pytest.fixture
def config(made: Path) -> Path:
    return made / "set" / "config.yaml"


@pytest.mark.parametrize(
    ("verb", "folder", "file"),
    [
        ("target", "target", "target.safetensors"),
        ("distill", "set", "distilled.safetensors"),
    ],
)
def test_cli__config_of_a_run_folder_makes_the_same_file(
    verb: str, folder: str, file: str, datastill: Command, made: Path, tmp_path: Path
) -> None:
    config = made / folder / "config.yaml"
    assert datastill(verb, "--config", config, "--out", tmp_path / "again").code == 0
    assert (tmp_path / "again" / file).read_bytes() == (made / folder / file).read_bytes()
    assert (tmp_path / "again" / "config.yaml").read_text() == config.read_text()


def test_cli__config_of_a_transfer_folder_makes_the_same_rows(
    datastill: Command, made: Path, photos: Path, tmp_path: Path
) -> None:
    words = ("transfer", made / "set", "scratch", "--to", f"folder:{photos}", "--seeds", "1")
    words += ("--pretrain-steps", "2", "--linear-probe.steps", "2")
    first = datastill(*words, "--out", tmp_path / "first")
    config = tmp_path / "first" / "config.yaml"
    again = datastill("transfer", "--config", config, "--out", tmp_path / "again")
    assert (first.code, again.code, again.out) == (0, 0, first.out)


def test_cli__flags_win_over_the_config_wherever_they_stand(
    datastill: Command, config: Path, tmp_path: Path
) -> None:
    words = ("distill", "--count", "4", "--config", config, "--method.outer_steps", "1")
    assert datastill(*words, "--out", tmp_path / "other").code == 0
    distilled = DistilledSet.load(tmp_path / "other")
    assert len(distilled) == 4
    assert distilled.provenance["method"]["options"]["outer_steps"] == 1


def test_cli__another_component_voids_the_options_of_the_old_one(
    datastill: Command, config: Path, tmp_path: Path
) -> None:
    words = ("distill", "--config", config, "--method", "random-subset")
    assert datastill(*words, "--out", tmp_path / "other").code == 0
    assert yaml.safe_load((tmp_path / "other" / "config.yaml").read_text())["method"] == {
        "name": "random-subset",
        "targets": "representation",
        "balanced": False,
    }


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


def test_cli__component_may_be_given_as_a_word_in_the_config(
    datastill: Command, config: Path, tmp_path: Path
) -> None:
    values = {**yaml.safe_load(config.read_text()), "method": "random-subset"}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(values))
    words = ("distill", "--config", tmp_path / "own.yaml", "--out", tmp_path / "set")
    assert datastill(*words).code == 0
    assert DistilledSet.load(tmp_path / "set").method == "random-subset"


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
