"""Estimates: every recipe has one, its operations are those of real steps, nothing is written."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from factories import NETWORK, toy_images
from torch.utils.flop_counter import FlopCounterMode

from datastill.cli import main
from datastill.core.errors import DataError
from datastill.core.lookup import names
from datastill.core.loop import replaced_loop, run_steps
from datastill.core.machine import Machine
from datastill.experiments.estimate import Estimator, estimate_table
from datastill.experiments.recipe import DistillationSpec, Recipe, get_recipe
from datastill.experiments.stages import stages
from datastill.methods.krr_st import KRRST
from datastill.methods.random_subset import RandomSubset
from datastill.objectives.barlow_twins import BarlowTwins
from datastill.train_target import TargetTraining, train_target

MACHINE = Machine()
TARGET = TargetTraining(
    NETWORK, outputs=5, objective=BarlowTwins(projector=(8, 8)), batch=24, steps=7
)


def tiny(**changes: object) -> Recipe:
    """`quick` on images of eight pixels, with small networks."""
    krr_st = KRRST(outer_steps=9, outer_batch=16, pool_size=2, max_age=40, crop_padding=0)
    specs = DistillationSpec(RandomSubset(), 12), DistillationSpec(krr_st, 12)
    recipe = replace(
        get_recipe("quick"), image_size=8, target=TARGET, network=NETWORK, sets=specs, probe_every=0
    )
    return replace(recipe, **changes)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("name", names("datastill.recipes"))
def test_estimate__has_every_stage_of_every_recipe(name: str) -> None:
    recipe = get_recipe(name, "smoke")
    costs = Estimator(recipe, MACHINE).estimate()
    assert list(costs) == list(stages(recipe))
    assert all(cost.seconds > 0 and cost.memory > 0 for cost in costs.values())


def test_estimate__counts_the_operations_of_all_steps() -> None:
    recipe = tiny(sets=(), protocols=(), judge_target=False)
    estimated = Estimator(recipe, MACHINE, count_only=True).estimate()["target"].flop
    with FlopCounterMode(display=False) as counter:
        train_target(toy_images(), replace(TARGET, standardize=False))
    assert estimated == counter.get_total_flops() > 0


def test_estimate__more_steps_and_a_longer_preparation_take_more() -> None:
    def flop(method: KRRST) -> float:
        recipe = tiny(sets=(DistillationSpec(method, 12),), protocols=())
        return Estimator(recipe, MACHINE, count_only=True).estimate()["sets/krr-st-12-0"].flop

    method = KRRST(outer_steps=50, outer_batch=16, pool_size=2, max_age=40, crop_padding=0)
    short, long = flop(method), flop(replace(method, outer_steps=100))
    assert 1.5 < long / short < 2
    assert flop(replace(method, max_age=400)) > 1.5 * short


def test_estimate__a_row_from_a_set_takes_more_than_one_from_scratch() -> None:
    costs = Estimator(tiny(seeds=1), MACHINE).estimate()
    row, scratch = (costs[f"rows/{x}/convnet-4-8-0"] for x in ("krr-st-12-0", "scratch"))
    assert row.flop > scratch.flop > 0 and row.seconds > scratch.seconds > 0


def test_table__has_a_row_for_equal_stages_and_a_total() -> None:
    text = estimate_table(tiny(seeds=2), MACHINE, count_only=True)
    lines = text.splitlines()
    assert [line.split()[:2] for line in lines if line.startswith("rows/scratch")] == [
        ["rows/scratch/convnet-4-8-*", "x2"]
    ]
    assert lines[-1].startswith("total") and "time" not in lines[1]


def test_replaced_loop__takes_the_place_of_every_loop() -> None:
    calls: list[tuple[str, int]] = []

    def runner(phase: str, state: object, step: object, length: int) -> None:
        calls.append((phase, length))

    with replaced_loop(runner):  # type: ignore[arg-type]
        run_steps("distill", None, lambda step: {}, length=7)
    run_steps("after", None, lambda step: {"steps": torch.tensor(step)}, length=1)
    assert calls == [("distill", 7)]


def test_estimate__data_of_unknown_size_are_refused() -> None:
    recipe = replace(get_recipe("quick"), source="folder:photos")
    with pytest.raises(DataError, match="number of images in folder:photos/train is unknown"):
        Estimator(recipe, MACHINE).estimate()


@pytest.mark.slow
def test_command__prints_all_stages_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATASTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    assert main(["estimate", "quick", "--scale", "smoke", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "rows/krr-st-4-*/convnet-32-64-128-*" in printed and "estimate from" in printed
    assert "only tests that everything works" in printed
    assert not list(tmp_path.iterdir())


def test_command__unknown_recipe_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "quik"]) == 2
    assert "did you mean 'quick'" in capsys.readouterr().err
