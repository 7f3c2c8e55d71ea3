"""Recipes without a target model: their parts, what they refuse, and a whole run at smoke scale."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from datastill.artefact import DistilledSet
from datastill.ground.errors import ConfigError
from datastill.ground.machine import Machine
from datastill.methods.krr_st import KRRST
from datastill.methods.random_subset import RandomSubset
from datastill.networks.convnet import ConvNet
from datastill.recipes._base import Recipe, Sets, named, smoke
from datastill.recipes._estimate import Estimator
from datastill.recipes._meter import Meter
from datastill.recipes._run import run_recipe
from datastill.recipes._workshop import Experiment, Workshop

MACHINE = Machine()
LABELLED = named("cifar10-labelled")
INNER = ConvNet(widths=(4,), norm="instance")


@dataclass(frozen=True)
class PerClass(RandomSubset):
    """Stands for a method that makes as many images of each class."""

    by_class: ClassVar[bool] = True


def tiny() -> Recipe:
    """The labelled benchmark on made images, with networks of four channels."""
    recipe = smoke(LABELLED)
    networks = ((32, INNER),)
    protocols = tuple(replace(p, networks=networks) for p in recipe.protocols)
    balanced = RandomSubset(targets="class-label", balanced=True)
    sets = (Sets(balanced, 10, network=ConvNet(widths=(8,))),)
    return replace(recipe, sets=sets, protocols=protocols, network=INNER)


def test_workshop__has_no_target_part_and_nothing_waits_for_one() -> None:
    parts = Workshop(Experiment(LABELLED, Path("nowhere"), 0, MACHINE)).parts
    assert "target" not in parts and not any("target" in part.job.needs for part in parts.values())
    assert parts["sets/random-subset-targets-class-label-balanced-10-4"].job.needs == ()
    row = "rows/random-subset-targets-class-label-balanced-100-3/labelled-convnet-128-instance-3"
    assert parts[row].job.needs == ("sets/random-subset-targets-class-label-balanced-100-3",)


@pytest.mark.parametrize(
    ("changes", "named_in_error"),
    [
        ({"sets": (Sets(KRRST(), 10), Sets(RandomSubset(), 10))}, "krr-st, random-subset"),
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
    sets = (Sets(PerClass(targets="class-label"), 100), Sets(RandomSubset("class-label"), 100))
    assert [made.count for made in smoke(replace(LABELLED, sets=sets)).sets] == [10, 4]


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


def test_run__sets_are_made_with_their_own_inner_network(tmp_path: Path) -> None:
    recipe = tiny()
    workshop = Workshop(Experiment(recipe, tmp_path, 0, MACHINE))
    workshop.make("sets/random-subset-targets-class-label-balanced-10-0")
    made = DistilledSet.load(tmp_path / "sets/random-subset-targets-class-label-balanced-10-0")
    assert made.provenance["network"]["widths"] == [8]
    assert made.targets.bincount().tolist() == [1] * 10


def test_estimate__adds_up_without_a_target_model() -> None:
    found = Estimator(tiny(), MACHINE, Meter(MACHINE)).estimate()
    names = [part.name for part in found.parts]
    assert "target" not in names and "shared/held-out" not in names
    row = next(p for p in found.parts if p.name.startswith("rows/random-subset"))
    scratch = next(p for p in found.parts if p.name.startswith("rows/scratch"))
    assert row.cost.flop > scratch.cost.flop > 0


def test_estimate__sets_of_every_class_are_measured_with_all_classes() -> None:
    recipe = replace(tiny(), sets=(Sets(PerClass(targets="class-label"), 10),))
    phases = Estimator(recipe, MACHINE, Meter(MACHINE)).phases
    problem = phases.problem(recipe.sets[0], 8, 2)
    assert (len(problem.images), problem.count, len(problem.by_class)) == (80, 20, 10)
