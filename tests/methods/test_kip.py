"""KIP against scikit-learn and a plain restatement, what each setting learns, and its failures."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from factories import equal, toy_images, toy_problem
from sklearn.kernel_ridge import KernelRidge
from torch import Tensor

from datastill.core.errors import NumericalWarning
from datastill.core.rng import fork
from datastill.distill import distill
from datastill.methods import kip
from datastill.methods._classes import sample_each_class
from datastill.methods.kip import KIP, KIPState
from datastill.networks.convnet import ConvNet
from datastill.ops.kernels import InfiniteWidthMLP
from datastill.problem import Problem

COUNT, CLASSES, SEED = 8, 4, 3
OURS = KIP(outer_steps=4, outer_batch=12)
every_kernel = pytest.mark.parametrize("kernel", ["ntk", "nngp"])


def problem(count: int = COUNT) -> Problem:
    return toy_problem(count, seed=SEED)


def after(method: KIP, steps: int, of: Problem) -> tuple[KIPState, list[dict[str, Any]]]:
    """Return the state after some steps, and their metrics."""
    state = method.init(of)
    return state, [method.step(of, state) for _ in range(steps)]


def one_hot(labels: Tensor) -> Tensor:
    return torch.eye(CLASSES, dtype=torch.float64)[labels]


def whitened(of: Problem, index: Tensor) -> Tensor:
    return of.images.whitened(0.1).normalized(index).flatten(1).double()


def drawn(of: Problem, steps: int) -> list[Tensor]:
    """The real batches of the first steps: three images of each class."""
    generator = fork(SEED, "batches")
    return [sample_each_class(of, 3, generator) for _ in range(steps)]


def labels_of(of: Problem, index: Tensor) -> Tensor:
    assert of.images.labels is not None
    return one_hot(of.images.labels[index]) - 1 / CLASSES


def fc1(x_a: Tensor, x_b: Tensor) -> Tensor:
    """The tangent kernel of one hidden layer, weights 2, biases 0.01: written out, no recursion."""
    p = x_a.shape[1]
    q_a, q_b = (2 * x.square().sum(1) / p + 0.01 for x in (x_a, x_b))
    s = 2 * x_a @ x_b.T / p + 0.01
    length = (q_a[:, None] * q_b).sqrt()
    theta = torch.acos((s / length).clamp(-1 + 1e-14, 1 - 1e-14))
    product = length * (theta.sin() + (math.pi - theta) * theta.cos()) / (2 * math.pi)
    covariance = 2 * product + 0.01
    return covariance + 2 * s * (math.pi - theta) / (2 * math.pi)


@every_kernel
def test_kip__loss_equals_scikit_learn(kernel: Any) -> None:
    of, method = problem(), replace(OURS, kernel=kernel, depth=2, ridge_of_mean=0.01)
    state = method.init(of)
    x_syn, y_syn = state.x_syn.detach().flatten(1), state.y_syn.numpy()
    index = drawn(of, 1)[0]
    wide = InfiniteWidthMLP(2, 2.0, 0.01)
    pairs = wide.ntk if kernel == "ntk" else wide.nngp
    k_mm, k_bm = pairs(x_syn, x_syn), pairs(whitened(of, index), x_syn)
    alpha = 0.01 * float(k_mm.trace()) / COUNT
    fitted = KernelRidge(alpha=alpha, kernel="precomputed").fit(k_mm.numpy(), y_syn)
    predicted, expected = fitted.predict(k_bm.numpy()), labels_of(of, index).numpy()
    metrics = method.step(of, state)
    assert float(metrics["outer_loss"]) == pytest.approx(((predicted - expected) ** 2).mean() / 2)
    hits = (predicted.argmax(1) == expected.argmax(1)).mean()
    assert float(metrics["accuracy_percent"]) == pytest.approx(100 * hits)
    regular = k_mm + alpha * torch.eye(COUNT)
    assert 1 < float(metrics["kernel_condition"]) <= float(torch.linalg.cond(regular))


def test_kip__steps_equal_a_plain_restatement() -> None:
    of, method = problem(), replace(OURS, learn="images-and-labels", ridge_of_mean=1e-3)
    start = method.init(of)
    x = start.x_syn.detach().clone().requires_grad_()
    y = start.y_syn.detach().clone().requires_grad_()
    adam = torch.optim.Adam([x, y], lr=0.04)
    for index in drawn(of, 4):
        flat = x.flatten(1).double()
        k_mm = fc1(flat, flat)
        ridge = 1e-3 * k_mm.trace() / COUNT * torch.eye(COUNT, dtype=k_mm.dtype)
        predicted = fc1(whitened(of, index), flat) @ torch.linalg.solve(k_mm + ridge, y.double())
        adam.zero_grad()
        (0.5 * (predicted - labels_of(of, index)).square().mean()).backward()
        adam.step()
    state, _ = after(method, 4, of)
    torch.testing.assert_close(state.x_syn, x, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(state.y_syn, y, atol=1e-4, rtol=1e-4)
    assert (state.x_syn - start.x_syn).abs().max() > 0.05


@pytest.mark.parametrize(
    ("learn", "images_move", "labels_move"),
    [("images", True, False), ("labels", False, True), ("images-and-labels", True, True)],
)
def test_kip__learns_what_was_asked(learn: Any, images_move: bool, labels_move: bool) -> None:
    of, method = problem(), replace(OURS, learn=learn)
    start, (state, _) = method.init(of), after(method, 1, of)
    assert torch.equal(start.x_syn, state.x_syn) != images_move
    assert torch.equal(start.y_syn, state.y_syn) != labels_move


def test_kip__starts_from_real_images_with_centred_labels_in_order() -> None:
    of = problem()
    initial = OURS.result(of, OURS.init(of))
    expected = one_hot(torch.arange(CLASSES).repeat_interleave(2)) - 0.25
    torch.testing.assert_close(initial.targets, expected.float())
    labels = of.images.labels
    assert labels is not None
    source = of.images.unit_pixels(slice(None)).flatten(1)
    distance, nearest = torch.cdist(initial.unit_pixels().flatten(1), source).min(1)
    assert distance.max() < 1e-3
    assert torch.equal(labels[nearest], torch.arange(CLASSES).repeat_interleave(2))
    assert len(nearest.unique()) == COUNT


def test_kip__artefact_keeps_the_whitening() -> None:
    of = problem()
    assert distill(OURS, of).normalizer.zca is not None
    plain = distill(replace(OURS, zca=False), of)
    assert plain.normalizer == of.images.normalizer and plain.pixel_space == "normalized"


def test_kip__labels_are_solved_for_the_whole_source() -> None:
    of, method = problem(), replace(OURS, learn="labels", ridge_of_mean=1e-3)
    state, (metrics,) = after(method, 1, of)
    everything = torch.arange(len(of.images))
    flat = state.x_syn.flatten(1).double()
    k_mm = fc1(flat, flat)
    k_mm = k_mm + 1e-3 * k_mm.trace() / COUNT * torch.eye(COUNT, dtype=k_mm.dtype)
    k_nm = InfiniteWidthMLP(1, 2.0, 0.01).ntk(whitened(of, everything), flat)
    design, wanted = (k_nm @ torch.linalg.inv(k_mm)).numpy(), labels_of(of, everything).numpy()
    expected = np.linalg.lstsq(design, wanted, rcond=None)[0]
    np.testing.assert_allclose(state.y_syn.detach().numpy(), expected, atol=1e-5)
    left = ((design @ expected - wanted) ** 2).mean() / 2
    assert float(metrics["outer_loss"]) == pytest.approx(left)


def test_kip__solved_labels_take_one_step_and_ignore_the_block() -> None:
    of, method = problem(), replace(OURS, learn="labels")
    assert method.length(of) == 1
    one, other = (distill(replace(method, outer_batch=size), of) for size in (5, 100))
    torch.testing.assert_close(one.targets, other.targets)


@pytest.mark.parametrize(("outer_batch", "each"), [(1, 1), (8, 2), (9, 3), (1000, 6)])
def test_kip__batch_has_equally_many_of_each_class(
    outer_batch: int, each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    of, seen = problem(), []

    def spy(*args: Any) -> Tensor:
        seen.append(sample_each_class(*args))
        return seen[-1]

    method = replace(OURS, outer_batch=outer_batch)
    state = method.init(of)
    monkeypatch.setattr(kip, "sample_each_class", spy)
    method.step(of, state)
    assert of.images.labels is not None
    assert of.images.labels[seen[0]].bincount().tolist() == [each] * CLASSES
    assert len(seen[0].unique()) == len(seen[0])


def test_kip__network_of_the_problem_does_not_matter() -> None:
    one, other = (
        distill(OURS, replace(problem(), network=ConvNet(widths=(width,)))) for width in (3, 9)
    )
    assert equal([one.images, one.targets], [other.images, other.targets])


def test_kip__images_that_are_alike_without_a_ridge_are_said() -> None:
    images = toy_images()
    twins = images.take(torch.arange(4).repeat(6))
    with pytest.warns(NumericalWarning, match="8x8 kernel matrix is not positive definite"):
        after(replace(OURS, ridge_of_mean=0.0), 1, toy_problem(COUNT, images=twins))
