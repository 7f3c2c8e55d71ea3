"""FRePo against a plain restatement in float64, its gradients, its pool and its switches."""

import copy
import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from factories import NETWORK, toy_images, toy_problem
from sklearn.kernel_ridge import KernelRidge
from torch import Tensor, nn

from datastill.batches import Batches
from datastill.core.rng import fork
from datastill.methods.frepo import FRePo, FRePoState, capped_margin
from datastill.networks.architecture import Network
from datastill.problem import Problem

STEPS, SEED, K, M = 12, 3, 4, 8
OURS = FRePo(
    outer_steps=STEPS, outer_batch=10, outer_lr=0.01, pool_size=2, max_age=3, inner_batch=8
)
PLAIN = replace(OURS, mirror=False, zca=False)


@cache
def toy(count: int = M, seed: int = SEED) -> Problem:
    return toy_problem(count, seed=seed)


def run(method: FRePo, steps: int, problem: Problem | None = None) -> FRePoState:
    problem = problem or toy()
    state = method.init(problem)
    for _ in range(steps):
        method.step(problem, state)
    return state


def learned(method: FRePo, steps: int) -> list[Tensor]:
    state = run(method, steps)
    return [state.x_syn.detach(), state.y_syn.detach()]


def clone(generator: torch.Generator) -> torch.Generator:
    other = torch.Generator()
    other.set_state(generator.get_state())
    return other


def next_slot(state: FRePoState) -> int:
    return int(torch.randint(2, (), generator=clone(state.slot_generator)))


def next_real(method: FRePo, state: FRePoState) -> tuple[Tensor, Tensor]:
    """The images and class numbers that the next step will see."""
    batches = Batches(state.batches.order, clone(state.batches.generator), state.batches.position)
    index, images = batches.draw(method.outer_batch), toy().images
    source = state.source
    assert images.labels is not None
    return source.normalized(index), images.labels[index]


def features(model: Network, x: Tensor) -> np.ndarray:
    with torch.no_grad():
        return copy.deepcopy(model).double().eval().embed(x.double()).numpy()


def loss_by_hand(
    model: Network, x_syn: Tensor, y_syn: Tensor, real: tuple[Tensor, Tensor], *, mirror: bool
) -> tuple[float, float, float]:
    """(outer loss, margin loss, accuracy), with scikit-learn and loops over images and classes."""
    x, y = x_syn, y_syn.double().numpy()
    if mirror:
        x, y = torch.cat([x, torch.flip(x, [-1])]), np.concatenate([y, y])
    f_syn, f_real = features(model, x), features(model, real[0])
    kernel = KernelRidge(alpha=1e-6 * np.trace(f_syn @ f_syn.T) / len(f_syn), kernel="linear")
    prediction = kernel.fit(f_syn, y).predict(f_real)
    outer = 0.0
    for row, label in zip(prediction, real[1].tolist(), strict=True):
        for k, value in enumerate(row):
            outer += 0.5 * (value - (1 - 1 / K if k == label else -1 / K)) ** 2
    hits = int((prediction.argmax(1) == real[1].numpy()).sum())
    margins = [sorted(row, reverse=True) for row in y_syn.tolist()]
    margin = -sum(min(row[0] - row[1], 1 / K) for row in margins) / len(margins)
    return outer / len(prediction), margin, hits / len(prediction)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("zca", [False, True])
def test_frepo__losses_equal_scikit_learn(mirror: bool, zca: bool) -> None:
    method = replace(OURS, mirror=mirror, zca=zca)
    state = run(method, 0)
    for _ in range(STEPS):
        model = state.pool.models[next_slot(state)].network
        pairs = state.x_syn.detach(), state.y_syn.detach()
        expected = loss_by_hand(model, *pairs, next_real(method, state), mirror=mirror)
        found = method.step(toy(), state)
        names = ("outer_loss", "margin_loss", "accuracy")
        assert [float(found[name]) for name in names] == pytest.approx(expected, rel=1e-3)


@dataclass(frozen=True)
class Flat(type(NETWORK)):  # type: ignore[misc]
    """Pixels are the features: a smooth loss, for finite differences."""

    def build_body(self, image_size: int, channels: int) -> tuple[nn.Module, int]:
        return nn.Sequential(nn.Flatten(), nn.Tanh()), channels * image_size**2


def test_frepo__gradients_equal_finite_differences() -> None:
    """Of the whole step, against differences of a restated loss in float64."""
    method = replace(OURS, zca=False, ridge_of_mean=1e-3, margin_weight=0.5, pool_size=1)
    problem = replace(toy(), network=Flat())
    state = method.init(problem)
    with torch.no_grad():
        state.y_syn[0] = torch.tensor([0.1, 0.02, -0.03, -0.09])  # below the cap of the margin
    x_real, numbers = next_real(method, state)
    start = [state.x_syn.detach().double(), state.y_syn.detach().double()]
    y_real = torch.eye(K, dtype=torch.float64)[numbers] - 1 / K
    trace = 2 * start[0].tanh().square().sum()  # a constant for the gradient

    def loss(x: Tensor, y: Tensor) -> float:
        f_syn = torch.cat([x, x.flip(3)]).flatten(1).tanh()
        ridge = 1e-3 * trace / len(f_syn) * torch.eye(len(f_syn), dtype=x.dtype)
        solved = torch.linalg.solve(f_syn @ f_syn.T + ridge, torch.cat([y, y]))
        off = x_real.double().flatten(1).tanh() @ f_syn.T @ solved - y_real
        top = y.sort(dim=1, descending=True).values
        margin = (top[:, 0] - top[:, 1]).clamp(max=1 / K).mean()
        return float(0.5 * off.square().sum() / len(x_real) - 0.5 * margin)

    method.step(problem, state)
    for which, tensor in enumerate((state.x_syn, state.y_syn)):
        direction = torch.randn(tensor.shape, generator=fork(0, which), dtype=torch.float64)
        ends = []
        for sign in (1, -1):
            moved = list(start)
            moved[which] = start[which] + sign * 1e-5 * direction
            ends.append(loss(*moved))
        assert tensor.grad is not None
        slope = float((tensor.grad * direction).sum())
        assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-3)


@pytest.mark.parametrize("classes", [4, 10, 40])
def test_frepo__starts_from_real_images_and_scaled_centred_labels(classes: int) -> None:
    images = toy_images(2 * classes, classes=classes)
    problem = toy_problem(2 * classes, images=images)
    state = PLAIN.init(problem)
    per_image = images.normalized(torch.arange(len(images)))
    for number in range(2 * classes):
        k = number // 2  # in label order, two of each
        assert any(
            torch.equal(state.x_syn[number].detach(), per_image[i]) for i in (k, k + classes)
        )
        for j in range(classes):
            expected = ((j == k) - 1 / classes) / math.sqrt(classes / 10)
            assert float(state.y_syn.detach()[number, j]) == pytest.approx(expected, abs=1e-6)


def test_frepo__inner_models_learn_the_labels_by_adam_on_half_squares() -> None:
    method = replace(PLAIN, pool_size=1)
    state = run(method, 0)
    by_hand = copy.deepcopy(state.pool.models[0].network).train()
    adam = torch.optim.Adam(by_hand.parameters(), lr=3e-4)
    for _ in range(2):
        method.step(toy(), state)
        off = by_hand(state.x_syn.detach()) - state.y_syn.detach()
        adam.zero_grad()
        (off.square().sum() / (2 * M)).backward()
        adam.step()
    x = state.x_syn.detach()  # biases below batch norm have gradients of rounding errors only
    ours, theirs = state.pool.models[0].network.train()(x), by_hand(x)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_frepo__running_statistics_follow_the_last_batch() -> None:
    model = run(replace(PLAIN, norm_momentum=0.7), 0).pool.models[1].network
    layers = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert layers and all(layer.momentum == 0.7 for layer in layers)


def test_frepo__pool_begins_untrained_with_staggered_counters() -> None:
    models = run(replace(OURS, pool_size=3, max_age=10), 0).pool.models
    assert [(m.age, m.reset_counter) for m in models] == [(0, 0), (0, 3), (0, 6)]


def test_frepo__models_live_for_the_maximal_age_and_are_replaced() -> None:
    method = replace(PLAIN, pool_size=1, max_age=3, outer_steps=9)
    state = run(method, 0)
    assert [method.step(toy(), state)["age"] for _ in range(9)] == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    assert state.pool.models[0].generation == 3


def test_frepo__rates_fall_by_a_cosine_to_a_tenth() -> None:
    state = run(PLAIN, 0)
    for step in range(STEPS):
        PLAIN.step(toy(), state)
        factor = 0.1 + 0.9 * (1 + math.cos(math.pi * step / STEPS)) / 2
        assert state.optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * factor)


def test_frepo__labels_stay_where_they_are_not_learned() -> None:
    before, after = (learned(replace(OURS, learn_labels=False), steps) for steps in (0, 5))
    assert torch.equal(before[1], after[1]) and not torch.equal(before[0], after[0])


def test_frepo__margin_loss_pulls_on_labels_below_the_cap_only() -> None:
    y_syn = torch.tensor([[0.5, 0.1, 0.0, 0.0], [0.3, 0.1, 0.0, 0.0]], requires_grad=True)
    margins = capped_margin(y_syn)
    assert margins.tolist() == pytest.approx([0.25, 0.2])
    (-margins.sum()).backward()
    assert y_syn.grad is not None
    assert y_syn.grad.tolist() == [[0, 0, 0, 0], [-1, 1, 0, 0]]


def test_frepo__one_class_has_no_margin() -> None:
    assert capped_margin(torch.ones(3, 1)).tolist() == [0, 0, 0]
    images = toy_images(6, classes=1)
    state = run(PLAIN, 2, toy_problem(3, images=images))
    assert state.x_syn.isfinite().all()


def test_frepo__whitened_images_are_kept_with_their_whitening() -> None:
    white, plain = (m.result(toy(), m.init(toy())) for m in (OURS, replace(OURS, zca=False)))
    assert white.normalizer.zca is not None and plain.normalizer.zca is None
    torch.testing.assert_close(white.unit_pixels(), plain.unit_pixels(), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(white.network_input(), plain.network_input(), atol=0.1)


@pytest.mark.parametrize(
    "other",
    [
        {"zca_ridge_of_mean": 1.0},
        {"ridge_of_mean": 1e-2},
        {"outer_batch": 5},
        {"inner_lr": 0.1},
        {"inner_batch": 3},
    ],
    ids=str,
)
def test_frepo__setting_changes_the_images(other: dict[str, object]) -> None:
    found, changed = (learned(m, 8)[0] for m in (OURS, replace(OURS, **other)))
    assert not torch.equal(found, changed)
