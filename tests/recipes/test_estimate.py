"""Estimates: operations against counts by hand, steps and parts against real runs."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toys import NETWORK

from datastill.augment.crop_flip import CropFlip
from datastill.batches import Batches
from datastill.cli import main
from datastill.cli.estimate import table, totals
from datastill.ground.errors import DataError
from datastill.ground.lookup import names
from datastill.ground.machine import Machine
from datastill.ground.rng import fork
from datastill.maths.krr import krr_predict
from datastill.maths.optimizers import Sgd
from datastill.methods.dsa import DSA
from datastill.methods.krr_st import KRRST
from datastill.methods.mtt import MTT
from datastill.objectives.barlow_twins import BarlowTwins
from datastill.pretrain import Pretraining
from datastill.recipes._bank_phases import Banked
from datastill.recipes._base import Recipe, Sets, named
from datastill.recipes._estimate import Estimator
from datastill.recipes._meter import Cost, Meter, Scale, Weigh
from datastill.recipes._phases import Phases, ends, having
from datastill.recipes._set_phases import Making
from datastill.recipes._task_phases import DataFacts, Judged
from datastill.recipes._workshop import Experiment, Workshop
from datastill.target_model import TargetModel
from datastill.train_target import TargetTraining, train_target
from datastill.transfer.linear_probe import LinearProbe

MACHINE = Machine()


def fake_meter() -> Meter:
    """Every piece of work takes one second, whatever it does."""
    ticks = iter(range(10**9))
    return Meter(MACHINE, clock=lambda: float(next(ticks)))


def tiny(scale: Scale | None = None) -> Phases:
    """The phases of `quick` on grey images of eight pixels, with small networks."""
    target = TargetTraining(
        architecture=NETWORK, outputs=5, objective=BarlowTwins(projector=(8, 8)), batch=24, steps=7
    )
    recipe = replace(named("quick"), image_size=8, target=target, network=NETWORK)
    return Phases(recipe, scale or Scale(fake_meter(), 1e12, 1e30, 1e-9), 1, 4)


def forward_flop(size: int = 8, outputs: int = 5) -> int:
    """Two per multiply-add of the toy ConvNet: 3x3 convolutions to 4 and 8 channels, a head."""
    first = size**2 * 4 * 9 * 1
    second = (size // 2) ** 2 * 8 * 9 * 4
    head = 8 * (size // 4) ** 2 * outputs
    return 2 * (first + second + head)


def test_meter__counts_multiply_adds_twice() -> None:
    network = NETWORK(image_size=8, channels=1, outputs=5)
    x = torch.zeros(3, 1, 8, 8)
    assert Meter(MACHINE).count(lambda: network(x)).flop == 3 * forward_flop()


def test_meter__kept_bytes_are_those_of_saved_tensors() -> None:
    x = torch.zeros(100, requires_grad=True)

    def run() -> None:
        for _ in range(3):  # each graph is freed before the next
            (x.exp() * 2).sum().backward()  # type: ignore[no-untyped-call]

    assert Meter(MACHINE).count(run).kept == 400  # exp keeps its result


def test_meter__counts_the_solve_of_a_kernel() -> None:
    def flop(m: int) -> float:
        f, y = torch.randn(m, 50, generator=torch.Generator().manual_seed(0)), torch.ones(m, 2)
        return Meter(MACHINE).count(lambda: krr_predict(f, f, y, ridge_of_trace=1e-3)).flop

    gram, query, solve = 2 * 2 * 20 * 20 * 50, 2 * 20 * 20 * 2, 20**3 / 3 + 2 * 20 * 20 * 2
    assert flop(20) == pytest.approx(gram + query + solve, rel=1e-12)


def test_represent__is_a_forward_pass_per_image() -> None:
    assert tiny().represent.flop == pytest.approx(forward_flop(), rel=1e-9)


def test_target_step__extrapolates_to_what_the_real_batch_takes() -> None:
    phases = tiny()
    images = phases.images(24)
    training = phases.recipe.target
    assert training is not None

    def run(steps: int) -> Callable[[], TargetModel]:
        return lambda: train_target(images, replace(training, steps=steps))

    meter = Meter(MACHINE)
    real = meter.count(run(2)).flop - meter.count(run(1)).flop
    assert phases.target_step.flop == pytest.approx(real, rel=1e-2)


def test_step__extrapolates_to_what_the_real_batch_and_count_take() -> None:
    phases = tiny()
    krr_st = next(s for s in phases.recipe.sets if ends(s.method, "batch"))
    method = having(
        krr_st.method, {"outer_batch": 64, "pool_size": 2, "max_age": 99, "bank": "off"}
    )
    sets = Sets(method, 24)
    problem = phases.problem(sets, 128, 24)
    young = having(method, {"max_age": 2})
    state = young.init(problem)
    young.step(problem, state)
    real = Meter(MACHINE).count(lambda: method.step(problem, state)).flop
    assert Making(phases, sets, 24, 1000).step().flop == pytest.approx(real, rel=1e-2)


def test_steps__rates_that_diverge_on_made_images_cost_the_same() -> None:
    """Made targets are no real ones: a sound rate may blow up on them, and nothing is learned."""
    phases = tiny()
    sets = Sets(named("quick").sets[0].method, 4)
    sound, wild = (Pretraining(Sgd(lr=lr), batch=4) for lr in (0.1, 1e30))
    found = [phases.pretrain_step(row, NETWORK, sets, 4).flop for row in (sound, wild)]
    assert found[0] == found[1] > 0
    training = replace(phases.recipe.target, optimizer=Sgd(lr=1e30))  # type: ignore[type-var]
    Phases(replace(phases.recipe, target=training), phases.scale, 1, 4).target_step  # noqa: B018


def test_warm_up__is_the_mean_of_what_first_steps_take() -> None:
    phases = tiny()
    krr_st = next(s for s in phases.recipe.sets if ends(s.method, "batch"))
    method = having(krr_st.method, {"outer_batch": 8, "pool_size": 3, "max_age": 20, "bank": "off"})
    found = Making(phases, Sets(method, 12), 12, source=100).warm_up().flop
    network = phases.recipe.network(image_size=8, channels=1, outputs=5)
    x, y = torch.zeros(12, 1, 8, 8), torch.zeros(12, 5)

    def train() -> None:
        torch.nn.functional.mse_loss(network(x), y).backward()  # type: ignore[no-untyped-call]

    assert found == pytest.approx(3 * 10 * Meter(MACHINE).count(train).flop, rel=1e-2)


def met(method: KRRST, source: int) -> int:
    """How many different views a method draws, by drawing them."""
    views, batches = CropFlip(method.crop_padding, method.flip), Batches.over(source, fork(0, "b"))
    found = set()
    for _ in range(method.outer_steps):
        index = batches.draw(method.outer_batch)
        found |= set((index * views.views + views.draw(len(index), batches.generator)).tolist())
    return len(found)


def test_bank__represents_all_views_or_those_that_are_met_and_what_has_no_room() -> None:
    method = KRRST(outer_steps=30, outer_batch=20, crop_padding=1, bank="full")
    one, views = Cost(1.0, 1.0), 40 * 18
    full, lazy = Banked(method, 40, 5), Banked(replace(method, bank="lazy"), 40, 5)
    assert full.cost(one).flop == views and full.nbytes == views * 10
    assert lazy.cost(one).flop == pytest.approx(met(method, 40), rel=0.05)
    half = Banked(replace(method, bank_gigabytes=views * 5 / 1e9), 40, 5)
    assert half.cost(one).flop == views / 2 + 30 * 20 / 2 and half.nbytes == views * 5
    single = Banked(replace(method, bank_precision="float32"), 40, 5)
    assert single.nbytes == views * 20


def test_step__is_that_of_a_full_bank() -> None:
    phases, method = tiny(), KRRST(outer_steps=9, outer_batch=8, pool_size=2, max_age=9)
    steps = {
        bank: Making(phases, Sets(replace(method, bank=bank), 12), 12, 100).step().flop
        for bank in ("off", "lazy", "full")
    }
    asked = steps["off"] - 8 * phases.represent.flop
    assert steps["lazy"] == steps["full"] == pytest.approx(asked, rel=1e-6)
    assert Making(phases, Sets(method, 12), 12, 100).banked is None


def by_class() -> Phases:
    """As `tiny`, of a source with six classes."""
    return replace(tiny(), source_classes=6)


def test_step__of_class_by_class_is_what_all_classes_and_inner_epochs_take() -> None:
    phases, method = by_class(), DSA(class_batch=8, outer_loops=9, inner_epochs=3, inner_batch=99)
    sets = Sets(method, 24)
    problem = phases.problem(sets, 16, 4)
    state = method.init(problem)
    method.step(problem, state)
    real = Meter(MACHINE).count(lambda: method.step(problem, state)).flop
    assert Making(phases, sets, 24, 6000).step().flop == pytest.approx(real, rel=2e-2)


def test_length__follows_the_images_per_class() -> None:
    phases = by_class()
    found = [Making(phases, Sets(DSA(networks=7), count), count, 6000) for count in (6, 60)]
    assert [making.length for making in found] == [7 * 1, 7 * 10]  # as published for 1 and 10
    assert [ends(making.sets.method, "inner_epochs") for making in found] == [
        {"inner_epochs": 1},
        {"inner_epochs": 50},
    ]


def test_experts__are_all_their_epochs_over_the_source() -> None:
    phases = by_class()
    method = MTT(experts=3, expert_epochs=4, expert_batch=32, max_start_epoch=2, zca=False)
    sets = Sets(method, 6)
    problem = phases.problem(sets, 16, 1)  # 96 images: three batches
    experts = method.experts_of(problem)
    real = Meter(MACHINE).count(lambda: experts.make(3)).flop
    making = Making(phases, sets, 6, 96)
    assert making.experts().flop == pytest.approx(real, rel=1e-2)
    held = sum(experts.trajectory(number).nbytes for number in range(3))
    assert making.expert_bytes == pytest.approx(held, rel=0.1)  # other outputs
    assert Making(phases, Sets(DSA(), 6), 6, 96).experts() == Cost()


def cubic(sizes: Mapping[str, int], weigh: Weigh) -> Cost:
    a, b = sizes["count"], sizes["b"]
    return Cost(3 + 2 * a + b, 7 + a**3 + 2 * a * b + b**2, 5 * a)


def test_scale__extrapolates_polynomials_exactly() -> None:
    line = Scale(fake_meter(), 1e30, 1e30).line(cubic, {"count": 100, "b": 60})
    found = line.at({"count": 100, "b": 60})
    assert found.flop == pytest.approx(7 + 100**3 + 2 * 100 * 60 + 60**2)
    assert found.seconds == pytest.approx(3 + 200 + 60) and found.kept == pytest.approx(500)


def estimator(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> Estimator:
    """One that counts a step of any phase as one, and nothing else."""
    one, none = Cost(1.0, 1.0), Cost()
    for name in ("begin", "experts", "warm_up"):
        monkeypatch.setattr(Making, name, lambda *_: none)
    monkeypatch.setattr(Making, "state_bytes", lambda *_: 0.0)
    monkeypatch.setattr(Making, "step", lambda *_: one)
    monkeypatch.setattr(Phases, "pretrain_step", lambda *_: one)
    monkeypatch.setattr(Phases, "target_step", property(lambda _: one))
    monkeypatch.setattr(Phases, "represent", property(lambda _: none))
    monkeypatch.setattr(Phases, "forward", lambda *_: none)
    monkeypatch.setattr("datastill.recipes._task_phases.Judged._step", lambda *_: one)
    monkeypatch.setattr("datastill.recipes._task_phases.Judged._solver", lambda *_: one)
    monkeypatch.setattr("datastill.recipes._task_phases.Judged._reading", lambda *_: none)
    target = recipe.target and replace(recipe.target, architecture=NETWORK)
    small = replace(recipe, target=target, image_size=32)
    monkeypatch.setattr(Phases, "weights", lambda *_: 1000)
    return Estimator(small, MACHINE, fake_meter())


SLOW = ("cifar10-labelled",)  # it whitens
RECIPES = [
    pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
    for name in names("datastill.recipes")
]


@pytest.mark.parametrize("name", RECIPES)
def test_estimate__has_every_part_of_every_recipe(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = named(name, "smoke")
    monkeypatch.setattr("datastill.recipes._estimate._count", lambda *_: 16)
    monkeypatch.setattr(
        "datastill.recipes._estimate._facts",
        lambda _, data: DataFacts(data, 16, 16, 4),
    )
    found = estimator(recipe, monkeypatch).estimate()
    small = replace(recipe, image_size=32)
    parts = sorted(Workshop(Experiment(small, Path(), 0, MACHINE)).parts)
    assert sorted(p.name for p in found.parts if not p.name.startswith("shared/")) == parts


def test_estimate__steps_are_those_of_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    found = estimator(named("quick"), monkeypatch).estimate()
    steps = {name: parts[0].cost.flop for name, parts in found.grouped().items()}
    assert steps["target"] == 800
    assert steps["sets/krr-st-50-*"] == 500 + 5 * 200  # a probe pre-trains 200 steps every 100
    probes = 2 * 3 * 5 * (5000 + 300)  # both loops: which solver runs shows in what a step takes
    assert steps["rows/scratch/convnet-32-64-128-*"] == 100 + probes
    assert steps["rows/krr-st-50-*/convnet-32-64-128-*"] == 100 + probes + 200


@pytest.mark.slow
def test_estimate__counting_alone_finds_the_same_operations() -> None:
    timed, counted = (
        Estimator(replace(named("quick"), image_size=8), MACHINE, meter).estimate()
        for meter in (fake_meter(), Meter(MACHINE, clock=None))
    )
    for one, other in zip(timed.parts, counted.parts, strict=True):
        assert (one.name, one.cost.flop) == (other.name, pytest.approx(other.cost.flop, rel=1e-9))
        assert other.cost.seconds == 0
    assert "time" not in table(counted, timed=False) and "time" in table(timed)
    assert totals(counted, 0).splitlines()[0].endswith(" TFLOP")
    assert "one after the other" not in totals(counted, 0)


def test_estimate__teachers_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = estimator(named("paper.table4-data-free-kd"), monkeypatch).estimate()
    shared = [part for part in found.parts if "teacher" in part.name]
    assert [(part.name, part.cost.flop) for part in shared] == [
        ("shared/teacher-of-cifar10", 10_000)
    ]
    row = next(p for p in found.parts if p.name.startswith("rows/krr-st-2000-0/paper-convnet"))
    assert row.cost.flop == 1000 * 8 + 1000 * 4  # pre-training in batches of 256, then of 512


def test_estimate__workers_share_what_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    found = estimator(named("quick"), monkeypatch).estimate()
    whole, longest = found.seconds(1), max(part.cost.seconds for part in found.parts)
    assert whole == pytest.approx(sum(part.cost.seconds for part in found.parts))
    assert longest + 800 <= found.seconds(4) < whole / 2


def test_estimate__data_without_official_counts_are_refused() -> None:
    recipe = replace(named("quick"), source="folder:photos")
    with pytest.raises(DataError, match="nobody has said how many images folder:photos/train"):
        Estimator(recipe, MACHINE, fake_meter()).estimate()


@pytest.mark.slow
def test_verb__prints_all_parts_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("DATASTILL_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    assert main(["estimate", "quick", "--scale", "smoke", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "rows/krr-st-4-*/convnet-32-64-128-*" in printed
    assert "says nothing of the full scale" in printed
    assert not list(tmp_path.iterdir())


def test_solver__is_counted_where_it_is_used() -> None:
    recipe = named("quick")
    phases = Phases(recipe, Scale(fake_meter(), rate=1e9, peak=1e9), 1, 10)
    output, body = (
        Judged(phases, task, recipe.network, None, 0)._solver(DataFacts("digits", 0, 0, 10), 50)
        for task in recipe.protocols[0].tasks[:2]
    )
    assert output.flop == 4 * 50 * 64 * 10 and body.flop == 4 * 50 * (2 * 2 * 128) * 10
    sgd = Judged(phases, LinearProbe(), recipe.network, None, 0)
    assert sgd._solver(DataFacts("digits", 0, 0, 10), 50) == Cost()


def test_verb__unknown_recipe_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "quik"]) == 2
    assert "did you mean 'quick'" in capsys.readouterr().err
