"""Transfer rows: measured once, kept through kills, with all that a reader needs."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from factories import NETWORK, KilledError, killed_at, toy_images, toy_problem, toy_task
from transfer_runs import PROBLEM, ROWS_OF_TASKS, numbers, origins, run

from datastill.core.errors import ConfigError, DataError
from datastill.core.machine import Machine
from datastill.core.rng import seeded
from datastill.core.run_folder import RunFolder
from datastill.distill import distill
from datastill.methods.random_subset import RandomSubset
from datastill.transfer._probe import FeatureProbe
from datastill.transfer._supervised import Supervised
from datastill.transfer.evaluation import read_rows
from datastill.transfer.finetune import Finetune
from datastill.transfer.origins import from_distilled
from datastill.transfer.task import TransferRow


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[TransferRow]:
    return run(tmp_path_factory.mktemp("rows"))


def test_transfer_rows__has_every_origin_task_setting_and_seed(rows: list[TransferRow]) -> None:
    assert len(rows) == 3 * 2 * ROWS_OF_TASKS + 2
    keys = {(row.method, row.task, row.setting, row.seed) for row in rows}
    assert len(keys) == len(rows)


def test_transfer_rows__row_says_what_was_measured(rows: list[TransferRow]) -> None:
    row = next(r for r in rows if r.method == "random-subset" and r.task == "finetune")
    assert (row.source, row.data, row.network, row.seed) == (
        "toy",
        "toy",
        "convnet(widths=[4, 8])",
        0,
    )
    assert (row.count, row.variant, row.steps) == (12, "", 4)
    assert row.accuracy_percent is not None and 0 <= row.accuracy_percent <= 100
    assert row.artefact == distill(RandomSubset(), PROBLEM).fingerprint
    assert row.options["task"]["steps"] == 4 and row.options["pretraining"]["steps"] == 3
    assert row.versions["torch"] and row.wall_seconds >= 0 and row.peak_memory_bytes > 0


def test_transfer_rows__row_says_how_its_set_was_made(rows: list[TransferRow]) -> None:
    row = next(r for r in rows if r.method == "random-subset" and r.task == "finetune")
    provenance = distill(RandomSubset(), PROBLEM).provenance
    assert row.settings["method"] == provenance["method"]["options"]
    assert row.settings["source"] == provenance["source"]["fingerprint"]
    assert row.settings["target"] == provenance["target"]["fingerprint"]
    assert row.settings["image_size"] == 8 and row.settings["precision"] == "float32"
    assert len(row.settings["data"]) == 64 and row.settings["distillation_seed"] == 0
    scratch = next(r for r in rows if r.method == "scratch" and r.task == "finetune")
    assert scratch.settings.keys() == {"data", "precision", "image_size", "outputs"}


def test_transfer_rows__a_set_made_anew_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    file = tmp_path / "rows.jsonl"
    fingerprint = distill(RandomSubset(), PROBLEM).fingerprint
    file.write_text(file.read_text().replace(fingerprint, "0" * 64))
    with pytest.raises(ConfigError, match="rows of another random-subset set"):
        run(tmp_path)


def test_transfer_rows__of_other_target_data_are_refused(tmp_path: Path) -> None:
    run(tmp_path)
    file = tmp_path / "rows.jsonl"
    file.write_text(file.read_text().replace(toy_task().fingerprint, "0" * 64))
    with pytest.raises(ConfigError, match="rows of other images of toy"):
        run(tmp_path)


def test_transfer_rows__of_an_older_version_have_no_fingerprint_of_the_data(tmp_path: Path) -> None:
    before = numbers(run(tmp_path))
    file = tmp_path / "rows.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps({**row, "settings": {}}) + "\n" for row in rows))
    assert len(run(tmp_path)) == len(before)


def test_transfer_rows__rows_of_a_newer_version_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"method": "krr-st", "new": 1}) + "\n")
    with pytest.raises(DataError, match="cannot read"):
        read_rows(file)


def test_transfer_rows__held_out_error_is_of_regressing_origins_only(
    rows: list[TransferRow],
) -> None:
    held_out = [row for row in rows if row.task == "held-out-r2"]
    assert {row.method for row in held_out} == {"random-subset"}
    assert all(r.accuracy_percent is None and r.r_squared is not None for r in held_out)


def test_transfer_rows__held_out_error_of_another_target_is_not_asked() -> None:
    origin = origins()[1]
    other = toy_problem(images=toy_images(16)).needed_target
    assert origin.regresses(PROBLEM.needed_target) and not origin.regresses(other)


def test_transfer_rows__class_labels_regress_nothing() -> None:
    hard = distill(RandomSubset(targets="class-label"), PROBLEM)
    origin = from_distilled(hard, NETWORK, Machine())
    assert not origin.regresses(PROBLEM.needed_target)


def test_transfer_rows__finished_run_measures_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run(tmp_path)
    for task in (FeatureProbe, Finetune):
        monkeypatch.setattr(task, "measure", None)
    assert numbers(run(tmp_path)) == numbers(before)


@pytest.mark.parametrize("number", [0, 1, 2, 6, 11])
def test_transfer_rows__killed_in_a_probe_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[TransferRow], number: int
) -> None:
    _killed(tmp_path, monkeypatch, FeatureProbe, "measure", number)
    assert numbers(run(tmp_path)) == numbers(rows)


@pytest.mark.parametrize("number", [0, 1, 7, 18])
def test_transfer_rows__killed_in_fine_tuning_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[TransferRow], number: int
) -> None:
    _killed(tmp_path, monkeypatch, Supervised, "_step", number)
    assert numbers(run(tmp_path)) == numbers(rows)


@pytest.mark.parametrize("number", range(6))
def test_transfer_rows__killed_in_pre_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[TransferRow], number: int
) -> None:
    _killed(tmp_path, monkeypatch, sys.modules["datastill.pretrain"], "train_step", number)
    assert numbers(run(tmp_path)) == numbers(rows)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(0, 20, 3))
def test_transfer_rows__killed_when_a_row_is_written_goes_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: list[TransferRow],
    number: int,
    after: bool,
) -> None:
    _killed(tmp_path, monkeypatch, RunFolder, "append_text", number, after=after)
    assert numbers(run(tmp_path)) == numbers(rows)


def test_transfer_rows__half_written_line_is_measured_again(
    tmp_path: Path, rows: list[TransferRow]
) -> None:
    run(tmp_path)
    file = tmp_path / "rows.jsonl"
    text = file.read_text()
    file.write_text(text[: len(text) // 2])  # in the middle of a line
    assert numbers(run(tmp_path)) == numbers(rows)


def test_transfer_rows__half_of_the_settings_of_a_task_are_measured_again(
    tmp_path: Path, rows: list[TransferRow]
) -> None:
    run(tmp_path)
    file = tmp_path / "rows.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text(lines[0] + lines[1][:40])  # the disk was full: one of two settings is there
    assert numbers(run(tmp_path)) == numbers(rows)


def test_read_rows__half_written_last_line_is_dropped_from_the_file(tmp_path: Path) -> None:
    run(tmp_path)
    file = tmp_path / "rows.jsonl"
    text = file.read_text()
    file.write_text(text + text[:50])
    assert len(read_rows(file)) == text.count("\n") - 1  # the last row may belong to the half
    assert text.startswith(file.read_text())


def test_from_scratch__is_the_network_that_pre_training_starts_from() -> None:
    network = origins()[0].make(3, None)
    with seeded(3, "pre-trained-network"):
        expected = NETWORK(image_size=8, channels=1, outputs=5)
    assert torch.equal(network.head.weight, expected.head.weight)


def test_from_target__is_the_target_model_itself() -> None:
    assert origins()[2].make(0, None) is PROBLEM.needed_target.module


def _killed(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: object,
    name: str,
    number: int,
    *,
    after: bool = False,
) -> None:
    original: Callable[..., object] = getattr(owner, name)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(owner, name, killed_at(number, original, after=after))
        run(folder)
