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
from datastill.experiments.estimate import MAX_STEPS, estimate, estimate_table
from datastill.experiments.recipe import DistillationSpec, Recipe, get_recipe
from datastill.experiments.stages import stages
from datastill.methods.k_means import KMeans
from datastill.methods.krr_st import KRRST
from datastill.methods.mtt import MTT
from datastill.methods.random_subset import RandomSubset
from datastill.objectives.barlow_twins import BarlowTwins
from datastill.protocols.protocol import custom_protocol
from datastill.train_target import TargetTraining, train_target
from datastill.transfer.linear_probe import LinearProbe

MACHINE = Machine()
TARGET = TargetTraining(
    NETWORK, outputs=5, objective=BarlowTwins(projector=(8, 8)), batch=24, steps=7
)
PROTOCOLS = (custom_protocol(LinearProbe(steps=2), pretrain_steps=3),)


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
    costs = estimate(recipe, MACHINE)
    assert list(costs) == list(stages(recipe))
    assert all(cost.seconds > 0 and cost.memory > 0 for cost in costs.values())


def test_estimate__counts_the_operations_of_all_steps() -> None:
    recipe = tiny(sets=(), protocols=(), judge_target=False)
    recipe = replace(recipe, target=replace(TARGET, standardize=False, steps=MAX_STEPS + 10))
    costs = estimate(recipe, MACHINE)
    with FlopCounterMode(display=False) as counter:
        train_target(toy_images(), recipe.target)
    assert costs["target"].flop == counter.get_total_flops() > 0


def test_estimate__more_steps_probes_and_a_longer_preparation_take_more() -> None:
    def flop(method: KRRST, **changes: object) -> float:
        recipe = tiny(sets=(DistillationSpec(method, 12),), protocols=PROTOCOLS, **changes)
        return estimate(replace(recipe, seeds=0), MACHINE)["sets/krr-st-12-0"].flop

    method = KRRST(outer_steps=50, outer_batch=16, pool_size=2, max_age=40, crop_padding=0)
    short, long = flop(method), flop(replace(method, outer_steps=100))
    assert 1.5 < long / short < 2
    assert flop(replace(method, max_age=400)) > 1.5 * short
    once, twice = (flop(method, probe_every=steps) - short for steps in (50, 25))
    assert twice == pytest.approx(2 * once) and once > 0


def test_estimate__selection_from_many_images_and_whitening_are_in_it() -> None:
    mtt = MTT(outer_steps=3, syn_steps=1, experts=4, expert_epochs=2, max_start_epoch=0)
    sets = DistillationSpec(KMeans(max_iterations=2), 12), DistillationSpec(mtt, 10)
    recipe = tiny(source="digits", sets=sets, protocols=(), judge_target=False)
    costs = estimate(recipe, MACHINE)
    k_means, trajectories = costs["sets/k-means-12-0"], costs["sets/mtt-10-0"]
    assert k_means.flop > 1000 * costs["target"].flop / TARGET.steps / TARGET.batch / 6
    assert trajectories.seconds > 0 and trajectories.disk > 10 * 8 * 8


def test_estimate__a_row_from_a_set_takes_more_than_one_from_scratch() -> None:
    costs = estimate(tiny(seeds=1), MACHINE)
    row, scratch = (costs[f"rows/{x}/convnet-4-8-0"] for x in ("krr-st-12-0", "scratch"))
    assert row.flop > scratch.flop > 0 and row.seconds > 0


def test_table__has_a_row_for_equal_stages_and_a_total() -> None:
    lines = estimate_table(tiny(seeds=2), MACHINE).splitlines()
    assert [line.split()[:2] for line in lines if line.startswith("rows/scratch")] == [
        ["rows/scratch/convnet-4-8-*", "x2"]
    ]
    assert lines[-2].startswith("total") and "estimate from" in lines[-1]


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
        estimate(recipe, MACHINE)


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
