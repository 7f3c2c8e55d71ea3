"""Recipes without a target model: their stages, what they refuse, and a run at smoke scale."""

import json
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from datastill.core.errors import ConfigError
from datastill.core.machine import Machine
from datastill.distilled_set import DistilledSet
from datastill.experiments import runner
from datastill.experiments.recipe import DistillationSpec, Recipe, get_recipe, smoke
from datastill.experiments.runner import Experiment, ExperimentRunner, run_recipe
from datastill.experiments.scheduler import RunStage, Submit, in_this_process
from datastill.experiments.stages import stages
from datastill.methods.krr_st import KRRST
from datastill.methods.random_subset import RandomSubset
from datastill.networks.convnet import ConvNet

MACHINE = Machine()
LABELLED = get_recipe("cifar10-labelled")
INNER = ConvNet(widths=(4,), norm="instance")


@dataclass(frozen=True)
class PerClass(RandomSubset):
    """Stands for a method that makes as many images of each class."""

    by_class: ClassVar[bool] = True


def tiny() -> Recipe:
    """The labelled benchmark on synthetic images, with networks of four channels."""
    recipe = smoke(LABELLED)
    networks = ((32, INNER),)
    protocols = tuple(replace(p, networks=networks) for p in recipe.protocols)
    balanced = RandomSubset(targets="class-label", balanced=True)
    sets = (DistillationSpec(balanced, 10, network=ConvNet(widths=(8,))),)
    return replace(recipe, sets=sets, protocols=protocols, network=INNER)


def test_stages__no_stage_depends_on_a_target_model() -> None:
    every = stages(LABELLED)
    assert "target" not in every and not any("target" in s.depends_on for s in every.values())
    assert every["sets/random-subset-targets-class-label-balanced-10-4"].depends_on == ()
    row = "rows/random-subset-targets-class-label-balanced-100-3/labelled-convnet-128-instance-3"
    needed = ("sets/random-subset-targets-class-label-balanced-100-3",)
    assert every[row].depends_on == needed


@pytest.mark.parametrize(
    ("changes", "named_in_error"),
    [
        (
            {"sets": (DistillationSpec(KRRST(), 10), DistillationSpec(RandomSubset(), 10))},
            "krr-st, random-subset",
        ),
        ({"judge_target": True}, "judge_target"),
        ({"probe_every": 5}, "probe_every"),
    ],
)
def test_recipe__without_target_refuses_what_needs_one(
    changes: dict[str, Any], named_in_error: str
) -> None:
    with pytest.raises(ConfigError, match=f"no target model, which {named_in_error} would need"):
        replace(LABELLED, **changes)


def test_smoke__methods_of_every_class_get_an_image_of_each() -> None:
    sets = (
        DistillationSpec(PerClass(targets="class-label"), 100),
        DistillationSpec(RandomSubset("class-label"), 100),
    )
    assert [spec.count for spec in smoke(replace(LABELLED, sets=sets)).sets] == [10, 4]


def test_run__makes_sets_and_classifies_without_a_target_model(tmp_path: Path) -> None:
    run_recipe(Experiment(tiny(), tmp_path / "run", 0, MACHINE))
    files = (tmp_path / "run" / "rows").rglob("rows.jsonl")
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert {(row["method"], row["task"], row["protocol"]) for row in rows} == {
        ("random-subset", "classify", "labelled"),
        ("scratch", "classify", "labelled"),
    }
    assert not (tmp_path / "run" / "target").exists()
    assert "Labelled standard" in (tmp_path / "run" / "report" / "report.html").read_text()


def test_run__workers_of_a_cluster_start_elsewhere_and_set_up_their_own_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = list[str]()

    def find(device: str, precision: str) -> Machine:
        devices.append(device)
        return MACHINE

    @contextmanager
    def cluster(run_stage: RunStage, address: str, *, gpus: int) -> Iterator[Submit]:
        assert gpus == 1

        def run_elsewhere(name: str) -> None:
            with chdir("/"):
                run_stage(name)

        with in_this_process(run_elsewhere) as submit:
            yield submit

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "on_ray", cluster)
    monkeypatch.setattr(Machine, "find", find)
    run_recipe(Experiment(tiny(), Path("run"), 0, Machine("cuda:1")), ray="auto")
    assert (tmp_path / "run" / "report" / "report.html").exists() and set(devices) == {"cuda"}


def test_run__sets_are_made_with_their_own_inner_network(tmp_path: Path) -> None:
    recipe = tiny()
    experiment = Experiment(recipe, tmp_path, 0, MACHINE)
    ExperimentRunner(experiment).run("sets/random-subset-targets-class-label-balanced-10-0")
    distilled = DistilledSet.load(tmp_path / "sets/random-subset-targets-class-label-balanced-10-0")
    assert distilled.provenance["network"]["widths"] == [8]
    assert distilled.targets.bincount().tolist() == [1] * 10
