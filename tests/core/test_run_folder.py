"""Run folders: one run each, continued only by the same options."""

import json
from pathlib import Path
from subprocess import TimeoutExpired

import pytest
import yaml

from datastill.core import run_folder
from datastill.core.errors import ConfigError, DataError, ResumeError
from datastill.core.locks import exclusive_lock
from datastill.core.run_folder import RunFolder, environment

CONFIG = {"method": {"name": "krr-st", "widths": (4, 8)}, "seed": 0, "out": Path("runs/a")}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.open(tmp_path / "run", CONFIG, resume=False)


def test_run_folder__has_its_config_as_plain_yaml_and_its_environment(folder: RunFolder) -> None:
    assert yaml.safe_load(folder.config_file.read_text()) == {
        "method": {"name": "krr-st", "widths": [4, 8]},
        "seed": 0,
        "out": "runs/a",
    }
    written = json.loads((folder.path / "environment.json").read_text())
    assert written["versions"]["torch"] and written["threads"] >= 1
    assert {"command", "commit", "python", "platform", "processor", "cores"} <= set(written)


@pytest.mark.parametrize("hung", [TimeoutExpired("git", 10), FileNotFoundError("git")])
def test_environment__does_without_a_git_that_hangs_or_is_not_there(
    hung: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise hung

    monkeypatch.setattr(run_folder.subprocess, "run", fails)
    assert environment()["commit"] is None


def test_run_folder__same_run_needs_resume(tmp_path: Path) -> None:
    assert RunFolder.open(tmp_path / "new", CONFIG, resume=True).config_file.exists()
    with pytest.raises(ConfigError, match="--resume"):
        RunFolder.open(tmp_path / "new", CONFIG, resume=False)
    RunFolder.open(tmp_path / "new", CONFIG, resume=True)


def test_run_folder__other_options_are_named_and_the_config_stays(folder: RunFolder) -> None:
    before = folder.config_file.read_text()
    other = {**CONFIG, "seed": 3, "method": {"name": "krr-st", "widths": (4,)}}
    with pytest.raises(ResumeError, match=r"method\.widths: \[4, 8\], now \[4\]; seed: 0, now 3"):
        RunFolder.open(folder.path, other, resume=True)
    assert folder.config_file.read_text() == before


def test_run_folder__moved_data_are_continued(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {"data": "folder:a/photos", "to": ["folder:a", "digits"], "target": "t", "seed": 0}
    moved = {**config, "data": "folder:/b", "to": ["folder:/c", "digits"], "target": "/t"}
    data = {"source images": "1" * 64}
    RunFolder.open(tmp_path / "run", config, resume=False, data=data)
    RunFolder.open(tmp_path / "run", moved, resume=True, data=data)
    assert "other paths: data: folder:a/photos, now folder:/b" in capsys.readouterr().err
    with pytest.raises(ResumeError, match=r"data: folder:, now digits"):
        RunFolder.open(tmp_path / "run", {**moved, "data": "digits"}, resume=True, data=data)


def test_run_folder__other_data_behind_the_same_path_are_refused(tmp_path: Path) -> None:
    before = {"source images": "1" * 64, "target model": "2" * 64}
    RunFolder.open(tmp_path, CONFIG, resume=False, data=before)
    with pytest.raises(ResumeError, match="whose source images had other contents; restore them"):
        RunFolder.open(tmp_path, CONFIG, resume=True, data={**before, "source images": "3" * 64})
    with pytest.raises(ResumeError, match="whose target model had other contents"):
        RunFolder.open(tmp_path, CONFIG, resume=True, data={"source images": "1" * 64})
    assert json.loads((tmp_path / "data.json").read_text()) == before


def test_run_folder__of_an_older_version_gets_the_fingerprints(folder: RunFolder) -> None:
    RunFolder.open(folder.path, CONFIG, resume=True, data={"source images": "1" * 64})
    assert folder.data() == {"source images": "1" * 64}


@pytest.mark.parametrize("resume", [False, True])
def test_run_folder__folder_with_other_files_is_refused(tmp_path: Path, resume: bool) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="not an empty folder; choose another --out"):
        RunFolder.open(tmp_path, CONFIG, resume=resume)


def test_run_folder__what_a_killed_start_left_is_no_other_file(tmp_path: Path) -> None:
    for name in (".config.yaml.1@host.part", ".config.lock"):
        (tmp_path / name).touch()
    assert RunFolder.open(tmp_path, CONFIG, resume=False).config_file.exists()


def test_run_folder__another_process_that_opens_it_is_refused(tmp_path: Path) -> None:
    with exclusive_lock(tmp_path / ".config.lock", "a run"), pytest.raises(ConfigError):
        RunFolder.open(tmp_path, CONFIG, resume=True)
    assert not (tmp_path / "config.yaml").exists()


def test_run_folder__link_in_place_of_its_log_is_refused(folder: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("my words")
    (folder.path / "metrics.jsonl").symlink_to(tmp_path / "thesis.tex")
    with pytest.raises(DataError, match=r"metrics\.jsonl cannot be written"):
        folder.log(0, {"loss": 1.0})
    assert (tmp_path / "thesis.tex").read_text() == "my words"


def test_run_folder__file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="not an empty folder"):
        RunFolder.open(tmp_path / "file", CONFIG, resume=False)
    with pytest.raises(DataError, match="cannot be written"):
        RunFolder.open(tmp_path / "file" / "run", CONFIG, resume=False)


def test_run_folder__change_of_environment_is_logged_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    RunFolder.open(tmp_path / "run", {"seed": 0}, resume=False)
    first = (tmp_path / "run" / "environment.json").read_bytes()
    RunFolder.open(tmp_path / "run", {"seed": 0}, resume=True)
    assert capsys.readouterr().err == ""
    other = {**run_folder.environment(), "threads": 77}
    monkeypatch.setattr(run_folder, "environment", lambda: other)
    RunFolder.open(tmp_path / "run", {"seed": 0}, resume=True)
    message = capsys.readouterr().err
    assert "started in another environment (threads: " in message and "now 77)" in message
    assert (tmp_path / "run" / "environment.json").read_bytes() == first
    later = (tmp_path / "run" / "environments.jsonl").read_text().splitlines()
    assert [json.loads(line)["threads"] for line in later] == [77]
