"""Transfer rows: measured once, kept through kills, with all that a reader needs."""

import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from factories import NETWORK, killed, toy_images, toy_problem, toy_task
from transfer_runs import PROBLEM, ROWS_OF_TASKS, numbers, origins, run

from datastill.core.errors import ConfigError, DataError
from datastill.core.machine import Machine
from datastill.core.rng import seeded
from datastill.core.run_folder import RunFolder
from datastill.distill import distill
from datastill.methods.random_subset import RandomSubset
from datastill.transfer._probe import FeatureProbe
from datastill.transfer._supervised import Supervised
from datastill.transfer.finetune import Finetune
from datastill.transfer.origins import from_distilled
from datastill.transfer.rows import TransferRow, read_rows


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run to its end."""
    folder = tmp_path_factory.mktemp("rows")
    run(folder)
    return folder


@pytest.fixture(scope="module")
def rows(whole: Path) -> list[TransferRow]:
    return read_rows(whole / "rows.jsonl")


@pytest.fixture
def finished(whole: Path, tmp_path: Path) -> Path:
    """A copy of the folder."""
    return Path(shutil.copytree(whole, tmp_path / "finished"))


def test_transfer_rows__has_every_origin_task_setting_and_seed(rows: list[TransferRow]) -> None:
    assert len(rows) == 3 * 2 * ROWS_OF_TASKS + 2
    keys = {(row.method, row.task, row.setting, row.seed) for row in rows}
    assert len(keys) == len(rows)


def test_transfer_rows__row_says_what_was_measured(rows: list[TransferRow]) -> None:
    row = next(r for r in rows if r.method == "random-subset" and r.task == "finetune")
    assert (row.source, row.data, row.seed) == ("toy", "toy", 0)
    assert row.network == "convnet(widths=[4, 8])"
    assert (row.count, row.variant, row.steps) == (12, "", 4)
    assert row.accuracy_percent is not None and 0 <= row.accuracy_percent <= 100
    assert row.artefact == distill(RandomSubset(), PROBLEM).fingerprint
    assert row.options["task"]["steps"] == 4 and row.options["pretraining"]["steps"] == 3
    assert row.versions["torch"] and row.wall_seconds >= 0 and row.peak_memory_bytes > 0


def test_transfer_rows__row_says_what_the_set_is(rows: list[TransferRow]) -> None:
    facts = {
        row.method: (row.target_kind, row.set_bytes, row.pretrain_steps, row.protocol)
        for row in rows
    }
    assert facts == {
        "scratch": ("", 0, 0, ""),
        "random-subset": ("representation", distill(RandomSubset(), PROBLEM).num_bytes, 3, ""),
        "target-model": ("", 0, 0, ""),
    }
    assert all((row.pretrain_seconds > 0) == (row.method == "random-subset") for row in rows)


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


@pytest.mark.parametrize(
    ("fingerprint", "message"),
    [
        (distill(RandomSubset(), PROBLEM).fingerprint, "rows of another random-subset set"),
        (toy_task().fingerprint, "rows of other images of toy"),
    ],
    ids=["set", "target data"],
)
def test_transfer_rows__of_what_was_made_anew_are_refused(
    fingerprint: str, message: str, finished: Path
) -> None:
    file = finished / "rows.jsonl"
    file.write_text(file.read_text().replace(fingerprint, "0" * 64))
    with pytest.raises(ConfigError, match=message):
        run(finished)


def test_transfer_rows__of_an_older_version_say_less(finished: Path) -> None:
    """They have no fingerprint of the data, among others."""
    file = finished / "rows.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows:
        row["settings"] = {}
        for name in ("protocol", "target_kind", "set_bytes", "pretrain_steps"):
            del row[name]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_rows(file)[0].protocol == "" and len(run(finished)) == len(rows)


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


def test_transfer_rows__held_out_error_of_another_target_or_of_classes_is_not_asked() -> None:
    origin, target = origins()[1], PROBLEM.needed_target
    hard = distill(RandomSubset(targets="class-label"), PROBLEM)
    other = toy_problem(images=toy_images(16)).needed_target
    assert origin.regresses(target) and not origin.regresses(other)
    assert not from_distilled(hard, NETWORK, Machine()).regresses(target)


def test_transfer_rows__finished_run_measures_nothing_again(
    finished: Path, monkeypatch: pytest.MonkeyPatch, rows: list[TransferRow]
) -> None:
    for task in (FeatureProbe, Finetune):
        monkeypatch.setattr(task, "measure", None)
    assert numbers(run(finished)) == numbers(rows)


PRETRAIN = sys.modules["datastill.pretrain"]


@pytest.mark.parametrize(
    ("owner", "name", "numbers_of_calls", "after"),
    [
        (FeatureProbe, "measure", (0, 2, 11), False),
        (Supervised, "_step", (0, 7, 18), False),
        (PRETRAIN, "train_step", (0, 2, 5), False),
        (RunFolder, "append_text", (0, 6, 12, 18), False),
        (RunFolder, "append_text", (0, 6, 12, 18), True),
    ],
    ids=["probe", "fine-tuning", "pre-training", "before a row", "after a row"],
)
def test_transfer_rows__killed_anywhere_goes_on(
    owner: object,
    name: str,
    numbers_of_calls: Iterable[int],
    after: bool,
    tmp_path: Path,
    rows: list[TransferRow],
) -> None:
    for number in numbers_of_calls:
        folder = tmp_path / str(number)
        with killed(owner, name, number, after=after):
            run(folder)
        assert numbers(run(folder)) == numbers(rows)


@pytest.mark.parametrize("kept", ["whole lines", "one of two settings"])
def test_transfer_rows__half_written_line_is_measured_again(
    kept: str, finished: Path, rows: list[TransferRow]
) -> None:
    file = finished / "rows.jsonl"
    text = file.read_text()
    end = text.index("\n") + 40 if kept == "one of two settings" else len(text) // 2
    file.write_text(text[:end])  # in the middle of a line: the disk was full
    assert numbers(run(finished)) == numbers(rows)


def test_read_rows__half_written_last_line_is_dropped_from_the_file(finished: Path) -> None:
    file = finished / "rows.jsonl"
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
