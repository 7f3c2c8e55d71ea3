"""DC and DSA: initial images, loops, Siamese augmentation, batch norm, precision."""

from dataclasses import replace

import pytest
import torch
from factories import toy_images, toy_problem
from torch import Tensor, nn

from datastill.augment.dsa import Dsa
from datastill.core.errors import ConfigError
from datastill.core.machine import Machine
from datastill.core.rng import fork
from datastill.distill import distill
from datastill.methods._classes import class_batches, sample_each_class
from datastill.methods._gradient_matching import (
    GradientMatching,
    GradientMatchingState,
    published_loops,
)
from datastill.methods.dc import DC
from datastill.methods.dsa import DSA
from datastill.methods.method import Problem
from datastill.networks.architecture import Architecture
from datastill.networks.convnet import ConvNet

COUNT, CLASSES, PER_CLASS, SEED = 8, 4, 2, 3
INSTANCE = ConvNet(widths=(4, 8), norm="instance")
DC_OURS = DC(networks=2, outer_loops=3, inner_epochs=2, class_batch=4, inner_batch=5)
DSA_OURS = DSA(networks=2, outer_loops=3, inner_epochs=2, class_batch=4, inner_batch=5)
both = pytest.mark.parametrize("method", [DC_OURS, DSA_OURS], ids=["dc", "dsa"])


def a_problem(network: Architecture = INSTANCE, count: int = COUNT) -> Problem:
    return Problem(toy_images(), None, count, seed=SEED, network=network)


def run(method: GradientMatching, problem: Problem, steps: int) -> GradientMatchingState:
    state = method.init(problem)
    for _ in range(steps):
        method.step(problem, state)
    return state


# --- images, classes, augmentation --------------------------------------------------------------


@both
def test_gradient_matching__labels_are_in_order(method: GradientMatching) -> None:
    distilled = distill(method, a_problem())
    assert distilled.targets.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert (distilled.target_kind, distilled.pixel_space) == ("hard-label", "normalized")


def test_dc__starts_from_normal_noise_by_default() -> None:
    x = DC_OURS.init(toy_problem(20)).x_syn.detach()
    assert x.shape == (20, 1, 8, 8)
    assert abs(float(x.mean())) < 0.1 and float(x.std()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("method", [DSA_OURS, replace(DC_OURS, initial_images="real")], ids=str)
def test_gradient_matching__starts_from_different_real_images_of_each_class(
    method: GradientMatching,
) -> None:
    problem = a_problem()
    x_syn = method.init(problem).x_syn.detach()
    source = problem.images.normalized(slice(None))
    found = [int((source - x).abs().amax((1, 2, 3)).argmin()) for x in x_syn]
    assert problem.images.labels is not None
    assert problem.images.labels[found].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(set(found)) == COUNT and torch.equal(source[found], x_syn)


@pytest.mark.parametrize(
    ("per_class", "loops"),
    [(1, (1, 1)), (10, (10, 50)), (20, (20, 25)), (30, (30, 20)), (40, (40, 15)), (50, (50, 10))],
)
def test_gradient_matching__loops_depend_on_images_per_class_as_released(
    per_class: int, loops: tuple[int, int]
) -> None:
    problem = Problem(toy_images(200), None, 4 * per_class, network=INSTANCE)
    assert published_loops(per_class) == loops
    assert DC().length(problem) == 1000 * loops[0]
    assert DSA(outer_loops=7).length(problem) == 7000


@pytest.mark.parametrize(("per_class", "like"), [(2, 10), (9, 10), (11, 20), (51, 50), (500, 50)])
def test_gradient_matching__other_counts_take_the_loops_of_the_next_published_one(
    per_class: int, like: int
) -> None:
    assert published_loops(per_class) == published_loops(like)


def marked(method: GradientMatching) -> tuple[Problem, GradientMatchingState]:
    """All images, real and distilled, are the same picture: what differs is the augmentation."""
    picture = toy_images(1)
    source = toy_images()
    images = replace(source, images=picture.images.expand(24, -1, -1, -1).clone())
    problem = Problem(images, None, COUNT, network=INSTANCE)
    return problem, replace(method, initial_images="real").init(problem)


def test_dsa__real_and_distilled_images_of_a_class_are_augmented_alike() -> None:
    problem, state = marked(DSA_OURS)
    seen = []
    for _ in range(12):
        x_real, x_syn = class_batches(
            problem, state, 2, class_batch=5, augmentation=DSA_OURS.augmentation
        )
        assert len(x_real) == 5 and len(x_syn) == PER_CLASS
        for x in (*x_real, *x_syn):
            torch.testing.assert_close(x, x_real[0])
        seen.append(x_real[0])
    assert len({tuple(x.detach().flatten().tolist()) for x in seen}) > 6


def test_dc__images_are_not_augmented() -> None:
    problem, state = marked(DC_OURS)
    before = state.augmentation_generator.get_state()
    x_real, x_syn = class_batches(
        problem, state, 0, class_batch=3, augmentation=DC_OURS.augmentation
    )
    assert torch.equal(x_real, problem.images.normalized(slice(0, 3)))
    assert torch.equal(x_syn, state.x_syn[:PER_CLASS])
    assert torch.equal(state.augmentation_generator.get_state(), before)


def test_dsa__without_strategies_is_dc() -> None:
    problem = a_problem()
    plain = replace(DSA_OURS, strategies=(), initial_images="noise")
    assert torch.equal(run(plain, problem, 4).x_syn, run(DC_OURS, problem, 4).x_syn)


def test_dsa__training_batches_are_augmented_image_by_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bool] = []
    apply = Dsa.__call__

    def recorded(
        dsa: Dsa, x: Tensor, generator: torch.Generator, *, siamese: bool = False
    ) -> Tensor:
        asked.append(siamese)
        return apply(dsa, x, generator, siamese=siamese)

    monkeypatch.setattr(Dsa, "__call__", recorded)
    run(DSA_OURS, a_problem(), steps=1)
    assert asked == [True] * 2 * CLASSES + [False] * 4  # two epochs of two batches


def test_dsa__unknown_strategy_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no 'spin' among the strategies"):
        DSA(strategies=("flip", "spin"))


@pytest.mark.parametrize(
    ("name", "value"), [("outer_loops", 0), ("inner_epochs", -1), ("networks", 0), ("outer_lr", 0)]
)
def test_gradient_matching__bounds_are_checked(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=f"{name}={value}: expected"):
        DC(**{name: value})


# --- batch norm, small classes, precision -------------------------------------------------------


def test_gradient_matching__batch_norm_uses_running_statistics_of_real_images() -> None:
    problem = a_problem(replace(INSTANCE, norm="batch"))
    state = run(replace(DC_OURS, inner_epochs=0), problem, steps=1)
    layer = next(m for m in state.network.modules() if isinstance(m, nn.BatchNorm2d))
    convolution = next(m for m in state.network.modules() if isinstance(m, nn.Conv2d))
    assert int(layer.num_batches_tracked) == 1
    index = sample_each_class(problem, 16, fork(SEED, "real-images"))
    seen = convolution(problem.images.normalized(index)).detach()
    torch.testing.assert_close(layer.running_mean, 0.1 * seen.mean((0, 2, 3)))
    variance = seen.transpose(0, 1).flatten(1).var(1)
    torch.testing.assert_close(layer.running_var, 0.9 + 0.1 * variance)


def test_gradient_matching__without_batch_norm_no_statistics_are_drawn() -> None:
    problem = a_problem()
    one, other = (run(replace(DC_OURS, statistics_batch=n), problem, 2).x_syn for n in (1, 16))
    assert torch.equal(one, other)


def test_gradient_matching__a_class_smaller_than_the_batch_is_taken_whole() -> None:
    problem = a_problem()
    x_real, _ = class_batches(
        problem, DC_OURS.init(problem), 1, class_batch=256, augmentation=DC_OURS.augmentation
    )
    assert len(x_real) == 6


@both
def test_gradient_matching__works_in_bfloat16(method: GradientMatching) -> None:
    problem = replace(a_problem(), machine=Machine(precision="bfloat16"))
    state = method.init(problem)
    before = state.x_syn.detach().clone()
    assert torch.as_tensor(method.step(problem, state)["outer_loss"]).isfinite()
    assert state.x_syn.isfinite().all() and not torch.equal(state.x_syn, before)
