"""A recipe of a few steps on a folder of images, through the command line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import Command

from datastill.cli import run as command
from datastill.distilled_set import DistilledSet
from datastill.experiments.recipe import DistillationSpec, Recipe
from datastill.methods.full_source import FullSource
from datastill.methods.krr_st import KRRST
from datastill.methods.random_subset import RandomSubset
from datastill.networks.convnet import ConvNet
from datastill.objectives.barlow_twins import BarlowTwins
from datastill.protocols.protocol import Protocol, custom_protocol
from datastill.stored_form.compression import Compression
from datastill.train_target import TargetTraining
from datastill.transfer.linear_probe import LinearProbe

NETWORK = ConvNet(widths=(4, 8))


@pytest.fixture
def tiny(photos: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A recipe that stands in for `quick`."""
    recipe = Recipe(
        name="quick",
        source=f"folder:{photos}",
        image_size=16,
        target=TargetTraining(NETWORK, 6, BarlowTwins(projector=()), steps=3, batch=16),
        network=NETWORK,
        sets=(
            DistillationSpec(RandomSubset(), 5, number=2),
            DistillationSpec(KRRST(outer_steps=4, outer_batch=16, pool_size=2, max_age=2), 5),
            DistillationSpec(FullSource(), "all"),
        ),
        data=(f"folder:{photos}",),
        protocols=(protocol(pretrain_steps=2),),
        seeds=2,
        probe_every=2,
    )
    stand_in(monkeypatch, recipe)
    return recipe


def protocol(*, pretrain_steps: int) -> Protocol:
    tasks = LinearProbe(steps=2), LinearProbe(features="output", steps=2)
    return custom_protocol(*tasks, pretrain_steps=pretrain_steps)


def stand_in(monkeypatch: pytest.MonkeyPatch, recipe: Recipe) -> None:
    monkeypatch.setattr(command, "get_recipe", lambda name, scale: recipe)


def lines(out: Path) -> list[dict[str, Any]]:
    files = (out / "rows").rglob("rows.jsonl")
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def rows(out: Path) -> tuple[list[str], int]:
    return sorted({row["method"] for row in lines(out)}), len(lines(out))


def accuracies(out: Path) -> list[tuple[object, ...]]:
    fields = ("method", "task", "setting", "seed", "accuracy_percent", "r_squared")
    return sorted(tuple(str(row[field]) for field in fields) for row in lines(out))


@pytest.mark.usefixtures("tiny")
def test_run__makes_all_rows_and_the_report(datastill: Command, tmp_path: Path) -> None:
    done = datastill("run", "quick", "--out", tmp_path / "run")
    assert done.code == 0, done.err
    methods = ["full-source", "krr-st", "random-subset", "scratch", "target-model"]
    # 5 methods, 2 seeds, 2 probes; and the held-out R² of the three that regress the target
    assert rows(tmp_path / "run") == (methods, 5 * 2 * 2 + 3 * 2)
    assert "| krr-st | 5 |" in done.out
    assert (tmp_path / "run" / "report" / "report.html").exists()


def test_run__a_coded_set_is_a_file_within_its_bytes(
    datastill: Command, tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coded = DistillationSpec(RandomSubset(), 5, compression=Compression(4_000, "webp"))
    stand_in(monkeypatch, replace(tiny, sets=(tiny.sets[0], coded), seeds=1))
    words = ("run", "quick", "--out", tmp_path / "run")
    assert datastill(*words).code == 0
    distilled = DistilledSet.load(tmp_path / "run" / "sets" / "random-subset-4000-webp-5-0")
    assert distilled.num_bytes <= 4_000
    assert distilled.fingerprint in {row["artefact"] for row in lines(tmp_path / "run")}
    done = datastill(*words, "--resume")
    assert done.code == 0 and len(lines(tmp_path / "run")) == 4 * 2 + 2


def test_run__in_two_processes_gives_the_same_rows(
    datastill: Command, tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, replace(tiny, sets=(DistillationSpec(RandomSubset(), 5),), seeds=1))
    datastill("run", "quick", "--out", tmp_path / "one")
    done = datastill("run", "quick", "--workers", "2", "--out", tmp_path / "two")
    assert done.code == 0, done.err
    assert accuracies(tmp_path / "two") == accuracies(tmp_path / "one")


def test_run__failed_part_is_named_and_the_others_are_kept(
    datastill: Command, tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverging = KRRST(outer_steps=4, outer_batch=16, outer_lr=1e20, pool_size=2, max_age=2)
    stand_in(monkeypatch, replace(tiny, sets=(tiny.sets[0], DistillationSpec(diverging, 5))))
    done = datastill("run", "quick", "--out", tmp_path / "run")
    assert done.code == 1
    assert "3 of" in done.err and "sets/krr-st-5-0: " in done.err and "--resume" in done.err
    assert rows(tmp_path / "run")[0] == ["random-subset", "scratch", "target-model"]
    failed = json.loads((tmp_path / "run" / "failed.json").read_text())
    named = {part["part"]: part["error"] for part in failed}
    assert named["rows/krr-st-5-0/convnet-4-8-0"] == "needs sets/krr-st-5-0, which failed"
    assert (tmp_path / "run" / "report" / "table.md").exists()


@pytest.mark.usefixtures("tiny")
def test_run__again_needs_resume_and_then_adds_nothing(datastill: Command, tmp_path: Path) -> None:
    words = ("run", "quick", "--out", tmp_path / "run")
    first, refused, resumed = datastill(*words), datastill(*words), datastill(*words, "--resume")
    assert (first.code, refused.code, resumed.code) == (0, 2, 0)
    assert "pass --resume" in refused.err
    assert resumed.out == first.out


def test_run__missing_images_leave_no_folder(
    datastill: Command, tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, replace(tiny, data=(f"folder:{tmp_path}/none",)))
    done = datastill("run", "quick", "--out", tmp_path / "run")
    assert done.code == 2 and "there is no folder" in done.err
    assert not (tmp_path / "run").exists()


def test_run__of_a_changed_recipe_reuses_only_what_is_equal_and_leaves_the_old_run_alone(
    datastill: Command, tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    datastill("run", "quick", "--out", old)
    before = files(old)
    stand_in(monkeypatch, replace(tiny, protocols=(protocol(pretrain_steps=3),)))
    refused = datastill("run", "--config", old / "config.yaml", "--out", new)
    assert refused.code == 2 and "steps: 2, now 3" in refused.err
    done = datastill("run", "quick", "--reuse", old, "--out", new)
    assert done.code == 0, done.err
    assert files(old) == before and rows(new) == rows(old)
    assert not (new / "target").exists() and not (new / "sets").exists()
    stand_in(monkeypatch, replace(tiny, target=replace(tiny.target, steps=4)))
    other = datastill("run", "quick", "--reuse", old, "--out", tmp_path / "other")
    assert other.code == 1 and "it differs in training.steps: 3, now 4" in other.err


def files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_run__takes_only_the_target_data_asked_for(
    datastill: Command, tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, replace(tiny, data=(*tiny.data, "cars"), sets=(), judge_target=False))
    done = datastill("run", "quick", "--to", tiny.data[0], "--out", tmp_path / "run")
    assert done.code == 0, done.err
    again = datastill("run", "--resume", "--out", tmp_path / "run")
    assert (again.code, again.out) == (0, done.out), again.err
    refused = datastill("run", "quick", "--to", "dogs", "--out", tmp_path / "other")
    assert refused.code == 2 and "no 'dogs' among the target data of quick" in refused.err
