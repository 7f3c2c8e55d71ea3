"""Label solve for networks against a dense solve and KRR-ST's gradient; each of its switches."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from factories import NETWORK, killed, logged, toy_images, toy_problem, toy_target
from torch import Tensor, nn

from datastill.core.errors import ConfigError, NotFiniteError
from datastill.core.rng import fork
from datastill.core.run_folder import RunFolder
from datastill.distill import distill
from datastill.distilled_set import DistilledSet
from datastill.methods.label_solve import LabelSolve, LabelSolveState, TrainedModel
from datastill.methods.random_subset import RandomSubset
from datastill.networks.convnet import ConvNet
from datastill.ops.krr import krr_predict, with_bias
from datastill.problem import Problem
from datastill.target_cache import TargetCache

SEED, M, D = 3, 6, 5
EXACT = LabelSolve(inner_models=3, max_age=4, real_images=20, real_batch=8, eps=0.0, rescale=False)
NARROW = ConvNet(widths=(2, 3))  # 12 features and a bias: fewer than the images of `wide`


@pytest.fixture(scope="module")
def problem() -> Problem:
    return toy_problem(count=M, seed=SEED)


@pytest.fixture(scope="module")
def wide() -> Problem:
    return replace(toy_problem(count=18, seed=SEED, images=toy_images(60)), network=NARROW)


@dataclass
class Seen:
    """One inner model, once it is trained, and its real images in one batch."""

    body: nn.Module
    f_real: Tensor  # (n, F + 1)
    g_real: Tensor  # (n, D)


def run(
    method: LabelSolve, problem: Problem
) -> tuple[LabelSolveState, list[Seen], list[dict[str, Any]]]:
    """Take all steps; note the inner models and their real images as they are used."""
    state, models, begin = method.init(problem), list[Seen](), LabelSolve._trained

    def noted(self: LabelSolve, *given: Any) -> TrainedModel:
        trained = begin(self, *given)
        x = problem.images.normalized(trained.index)
        f_real, g_real = with_bias(trained.body(x)).double(), problem.represent(trained.index)
        models.append(Seen(trained.body, f_real, g_real.double()))
        return trained

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LabelSolve, "_trained", noted)
        metrics = [method.step(problem, state) for _ in range(method.length(problem))]
    return state, models, metrics


def features(problem: Problem, seen: Seen) -> Tensor:  # (M, F + 1)
    chosen = RandomSubset().choose(problem)
    return with_bias(seen.body(problem.images.normalized(chosen))).double()


def mean_outer_loss(problem: Problem, models: list[Seen], y: Tensor) -> Tensor:
    """KRR-ST's outer loss, averaged over inner models that have as many real images each."""
    losses = [
        F.mse_loss(krr_predict(m.f_real, features(problem, m), y, ridge_of_trace=1e-6)[0], m.g_real)
        for m in models
    ]
    return torch.stack(losses).mean()


def dense(problem: Problem, models: list[Seen]) -> tuple[Tensor, Tensor]:
    """The rows A of all models one below the other, and their targets, by explicit inverses."""
    rows = []
    for model in models:
        phi = features(problem, model)
        k_mm = phi @ phi.T
        ridge = 1e-6 * k_mm.trace() * torch.eye(len(phi))
        rows.append(model.f_real @ phi.T @ torch.linalg.inv(k_mm + ridge))
    return torch.cat(rows), torch.cat([m.g_real for m in models])


def test_label_solve__equals_dense_least_squares(problem: Problem) -> None:
    state, models, metrics = run(EXACT, problem)
    a, g = dense(problem, models)
    assert a.shape == (3 * 20, M)
    y = torch.linalg.lstsq(a, g).solution
    torch.testing.assert_close(state.y_syn.double(), y, atol=1e-5, rtol=1e-5)
    assert metrics[-1]["solved_loss"].item() == pytest.approx(F.mse_loss(a @ y, g).item())


@pytest.mark.parametrize("eps", [0.1, 1e3])
def test_label_solve__eps_pulls_towards_the_first_targets(problem: Problem, eps: float) -> None:
    state, models, _ = run(replace(EXACT, eps=eps), problem)
    a, g = dense(problem, models)
    e, first = eps * (a.T @ a).diagonal().mean(), state.start.y.double()
    y = torch.linalg.solve(a.T @ a + e * torch.eye(M), a.T @ g + e * first)
    torch.testing.assert_close(state.y_syn.double(), y, atol=1e-5, rtol=1e-5)
    assert (state.y_syn - first).norm() < 0.02 * first.norm() or eps < 1


def test_label_solve__gradient_of_krr_st_is_zero_at_the_solution(problem: Problem) -> None:
    state, models, metrics = run(EXACT, problem)
    gradients = []
    for y in (state.start.y, state.y_syn):
        y = y.double().requires_grad_()
        loss = mean_outer_loss(problem, models, y)
        gradients.append(float(torch.autograd.grad(loss, y)[0].norm()))
    assert gradients[1] < 1e-5 * gradients[0] and gradients[0] > 0.01
    losses = [
        float(mean_outer_loss(problem, models, y.double())) for y in (state.start.y, state.y_syn)
    ]
    assert losses[1] < losses[0] and losses[1] == pytest.approx(float(metrics[-1]["solved_loss"]))


def test_label_solve__outer_loss_is_that_of_the_first_targets(problem: Problem) -> None:
    state, models, metrics = run(replace(EXACT, real_batch=20), problem)
    expected = [float(mean_outer_loss(problem, [m], state.start.y.double())) for m in models]
    assert [float(m["outer_loss"]) for m in metrics if "age" in m] == pytest.approx(expected)


def test_label_solve__few_features_give_the_same(wide: Problem) -> None:
    """More images than features: the sums are over features, and W is primal."""
    method = replace(EXACT, real_images=50, eps=1e-3)
    state, models, _ = run(method, wide)
    assert state.by_feature[0] is not None and models[0].f_real.shape == (50, 13)
    a, g = dense(wide, models)
    e = 1e-3 * (a.T @ a).diagonal().mean()
    y = torch.linalg.solve(a.T @ a + e * torch.eye(18), a.T @ g + e * state.start.y.double())
    torch.testing.assert_close(state.y_syn.double(), y, atol=1e-4, rtol=1e-4)


def test_label_solve__one_model_leaves_directions_to_the_first_targets(wide: Problem) -> None:
    method = replace(EXACT, inner_models=1, real_images=50, eps=1e-9)
    state, (model,), _ = run(method, wide)
    a, _ = dense(wide, [model])
    open_directions = torch.linalg.svd(a)[2][13:]  # that no prediction of this model depends on
    change = state.y_syn.double() - state.start.y.double()
    assert (open_directions @ change).abs().max() < 1e-3 < change.abs().max()


def test_label_solve__target_that_is_not_finite_stops(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = torch.full((8, D), torch.nan)
    monkeypatch.setattr(TargetCache, "__call__", lambda _, index, view: bad[: len(index)])
    with pytest.raises(NotFiniteError, match="outer_loss is nan"):
        distill(EXACT, problem)


def test_label_solve__rescaled_targets_have_the_deviations_of_the_target_model(
    problem: Problem,
) -> None:
    state, models, metrics = run(replace(EXACT, rescale=True), problem)
    solved, *_ = run(EXACT, problem)
    g = torch.cat([m.g_real for m in models])
    deviations = state.y_syn.double().std(0, correction=0)
    torch.testing.assert_close(deviations, g.std(0, correction=0), atol=1e-5, rtol=1e-5)
    factor = (state.y_syn.double() - g.mean(0)) / (solved.y_syn.double() - g.mean(0))
    torch.testing.assert_close(factor, factor[:1].expand(M, D), atol=1e-3, rtol=1e-3)
    a, g = dense(problem, models)
    expected = F.mse_loss(a @ state.y_syn.double(), g).item()
    assert metrics[-1]["rescaled_loss"].item() == pytest.approx(expected, rel=1e-4)


def test_label_solve__scaling_of_the_target_model_passes_through(problem: Problem) -> None:
    """Targets in other units, far from zero, give nearly the same targets in these units."""
    known, method = problem.needed_target, replace(EXACT, max_age=0, rescale=True)
    scaled = replace(known, offset=known.offset - 5 * known.scale / 2, scale=known.scale / 2)
    y, other = (
        distill(method, replace(problem, target=target)).targets for target in (known, scaled)
    )
    torch.testing.assert_close(other, 2 * y + 5, atol=0.05, rtol=0)


def test_label_solve__images_and_first_targets_are_those_of_random_subset(problem: Problem) -> None:
    subset, state = distill(RandomSubset(), problem), EXACT.init(problem)
    first, last = EXACT.result(problem, state), distill(EXACT, problem)
    assert torch.equal(first.images, subset.images) and torch.equal(last.images, subset.images)
    assert torch.equal(first.targets, subset.targets)
    assert not torch.equal(last.targets, subset.targets)


def test_label_solve__ages_are_drawn_up_to_the_maximum(problem: Problem) -> None:
    method = replace(EXACT, inner_models=60, max_age=3, real_images=8)
    _, _, metrics = run(method, problem)
    ages = [m["age"] for m in metrics if "age" in m]
    assert set(ages) == {0, 1, 2, 3} and len(ages) == 60
    assert method.length(problem) == sum(ages) + 60


def test_label_solve__later_rounds_train_on_the_targets_of_the_round_before(
    problem: Problem,
) -> None:
    one, two = (run(replace(EXACT, rounds=n, max_age=9), problem) for n in (1, 2))
    assert [m for m in two[2][: len(one[2])] if "inner_loss" in m] == [
        m for m in one[2] if "inner_loss" in m
    ]
    solves = [n for n, m in enumerate(two[2]) if "solved_loss" in m]
    assert solves == [len(one[2]) - 1, len(two[2]) - 1]
    later = next(m for m in two[2][len(one[2]) :] if "age" in m)
    seen = two[1][3]
    y = one[0].y_syn.double()
    batch = Seen(seen.body, seen.f_real[:8], seen.g_real[:8])
    assert later["outer_loss"].item() == pytest.approx(mean_outer_loss(problem, [batch], y).item())


def test_label_solve__real_images_are_drawn_anew_for_each_model(problem: Problem) -> None:
    _, models, _ = run(replace(EXACT, real_images=10), problem)
    assert not torch.equal(models[0].g_real, models[1].g_real)
    _, (every, *_), _ = run(replace(EXACT, real_images=1000), problem)
    assert len(every.f_real) == len(problem.images)


@pytest.mark.parametrize(
    "other",
    [
        {"rounds": 2},
        {"inner_models": 2},
        {"max_age": 2},
        {"real_images": 10},
        {"eps": 0.1},
        {"rescale": True},
        {"inner_batch": 2},
        {"ridge_of_trace": 1e-2},
        {"ridge_of_mean": 1e-2},
        {"inner_lr": 0.01},
        {"inner_momentum": 0.0},
        {"inner_weight_decay": 0.1},
        {"crop_padding": 1},
        {"flip": True},
    ],
    ids=str,
)
def test_label_solve__switch_changes_the_result(problem: Problem, other: dict[str, Any]) -> None:
    one, changed = (distill(method, problem) for method in (EXACT, replace(EXACT, **other)))
    assert torch.equal(one.images, changed.images)
    assert not torch.equal(one.targets, changed.targets)


def test_label_solve__batches_change_rounding_alone(problem: Problem) -> None:
    one, other = (distill(replace(EXACT, real_batch=n), problem).targets for n in (3, 20))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_label_solve__several_architectures_take_turns_and_resume(tmp_path: Path) -> None:
    images = toy_images()
    problem = Problem(images, toy_target(images), M, seed=SEED, network=NETWORK)
    method = replace(EXACT, inner_networks=("convnet", "mobilenet"), max_age=1)
    state = method.init(problem)
    assert [type(m.network.architecture).__name__ for m in state.pool.models] == [
        "ConvNet",
        "MobileNet",
    ]
    assert state.pool.models[0].network.architecture == NETWORK
    _, models, _ = run(method, problem)
    assert models[0].f_real.shape[1] == models[2].f_real.shape[1] != models[1].f_real.shape[1]
    whole, length = distill(method, problem), method.length(problem)
    for number in range(length):
        with killed(LabelSolve, "step", min(number, 1), after=number > 0):
            saved(method, problem, tmp_path)
    resumed = saved(method, problem, tmp_path)
    assert torch.equal(resumed.targets, whole.targets)
    assert len(logged(tmp_path, "outer_loss")) == length


def saved(method: LabelSolve, problem: Problem, folder: Path) -> DistilledSet:
    """A run with a checkpoint after every step."""
    opened = RunFolder.open(folder, method.identity(), resume=True, checkpoint_seconds=0.0)
    return distill(method, problem, folder=opened)


def test_label_solve__few_features_resume_bit_for_bit(wide: Problem, tmp_path: Path) -> None:
    method = replace(EXACT, rounds=2, inner_models=2, crop_padding=1, flip=True, eps=1e-3)
    whole, length = distill(method, wide), method.length(wide)
    for number in range(length):
        with killed(LabelSolve, "step", min(number, 1), after=number > 0):
            saved(method, wide, tmp_path)
    assert torch.equal(saved(method, wide, tmp_path).targets, whole.targets)


@pytest.mark.parametrize("batch", [slice(0, 8), slice(8, 16)])
def test_label_solve__same_views_reach_both_networks(problem: Problem, batch: slice) -> None:
    """The inner model and the target model are shown the same crops."""
    method = replace(EXACT, crop_padding=2, flip=True, max_age=0)
    state, number = method.init(problem), batch.start // 8
    for _ in range(number + 1):
        metrics = method.step(problem, state)
    assert state.trained is not None
    index, view = state.trained.index[batch], state.trained.view[batch]
    generator = fork(SEED, "label-solve-views", 0)
    crop_flip = state.start.cache.crop_flip
    assert torch.equal(view, crop_flip.draw(20, generator)[batch])
    x = problem.images.normalizer(crop_flip(problem.images.images[index], view).float() / 255)
    seen = Seen(
        state.trained.body,
        with_bias(state.trained.body(x)).double(),
        problem.needed_target.represent(x).double(),
    )
    expected = mean_outer_loss(problem, [seen], state.start.y.double())
    assert float(metrics["outer_loss"]) == pytest.approx(float(expected), rel=1e-4)


def test_label_solve__unfit_architectures_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"no 'convnt' among the networks; did you mean 'convne"):
        LabelSolve(inner_networks=("convnt",))
    with pytest.raises(ConfigError, match=r"VGG11.* needs images of at least 32 pixels"):
        LabelSolve(inner_networks=("convnet", "vgg11")).check(toy_problem())


def test_label_solve__variant_names_what_makes_another_row() -> None:
    assert LabelSolve().variant == ""
    assert replace(LabelSolve(), rescale=False, rounds=2).variant == "rounds=2, rescale=False"
