"""MTT against plain restatements, its step size, its bounds, and that it works."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from factories import toy_images
from torch import Tensor, nn

from datastill.augment.dsa import Dsa
from datastill.batches import Batches
from datastill.core.errors import ConfigError, NumericalWarning
from datastill.core.machine import Machine
from datastill.core.rng import fork, seeded
from datastill.distill import distill
from datastill.methods._experts import flat_parameters, functional_forward
from datastill.methods._trajectory_matching import TrajectoryState, normalized_distance, unroll
from datastill.methods.mtt import MTT
from datastill.networks.architecture import Network
from datastill.networks.convnet import ConvNet
from datastill.problem import Problem

NETWORK = ConvNet(widths=(4, 8), norm="instance")
TINY = MTT(
    outer_steps=40,
    outer_lr=1.0,
    syn_steps=3,
    student_lr=0.05,
    matched_epochs=1,
    max_start_epoch=2,
    experts=2,
    expert_epochs=3,
    expert_batch=8,
    expert_lr=0.1,
    zca=False,
)


def problem(count: int = 4, *, seed: int = 0) -> Problem:
    return Problem(toy_images(), None, count, seed=seed, network=NETWORK)


def begun(method: MTT, of: Problem | None = None) -> tuple[Problem, TrajectoryState]:
    of = of or problem()
    return of, method.init(of)


def network(norm: str = "instance", *, seed: int = 0) -> Network:
    with seeded(seed, "network"):
        return ConvNet((2, 3), norm)(image_size=4, channels=1, outputs=3)  # type: ignore[arg-type]


def by_hand(module: nn.Module, batches: list[tuple[Tensor, Tensor]], lr: float) -> Tensor:
    """All parameters of a copy of a network after plain SGD on the batches."""
    student = copy.deepcopy(module).train()
    optimizer = torch.optim.SGD(student.parameters(), lr=lr)
    for x, y in batches:
        optimizer.zero_grad()
        F.cross_entropy(student(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in student.parameters()])


# the unrolled student


@pytest.fixture
def double() -> tuple[Network, Tensor, Tensor, Tensor]:
    """A tiny network in float64, images (5, 1, 4, 4), labels (5,), and where an expert went."""
    made = network().double()
    x = torch.randn(5, 1, 4, 4, generator=fork(0, "x"), dtype=torch.float64)
    start = flat_parameters(made)
    goal = start + 0.1 * torch.randn(len(start), generator=fork(0, "goal")).double()
    return made, x, torch.tensor([0, 1, 2, 0, 1]), goal


Double = tuple[Network, Tensor, Tensor, Tensor]
TAKEN = [torch.tensor(index) for index in ([0, 1, 2], [3, 4], [2, 0, 4])]


def loss_by_hand(double: Double, x: Tensor, lr: float) -> float:
    made, _, y, goal = double
    theta = by_hand(made, [(x[index], y[index]) for index in TAKEN], lr)
    start = torch.cat([p.detach().flatten() for p in made.parameters()])
    return float(((theta - goal) ** 2).sum() / ((start - goal) ** 2).sum())


def ours(double: Double, x: Tensor, lr: Tensor) -> Tensor:
    made, _, y, goal = double
    student, start = copy.deepcopy(made).train(), flat_parameters(made)
    batches = [(x[index], y[index]) for index in TAKEN]
    theta = unroll(student, start, batches, lr, F.cross_entropy, Machine())
    return normalized_distance(theta, start, goal)


def test_unrolled_loss__equals_plain_training(double: Double) -> None:
    lr = torch.tensor(0.3, dtype=torch.float64)
    assert float(ours(double, double[1], lr).detach()) == pytest.approx(
        loss_by_hand(double, double[1], 0.3), rel=1e-12
    )


def test_unrolled_loss__gradient_of_images_is_that_of_finite_differences(double: Double) -> None:
    x, lr, small = double[1].clone().requires_grad_(), torch.tensor(0.3).double(), 1e-5
    (gradient,) = torch.autograd.grad(ours(double, x, lr), x)
    for place in [(0, 0, 0, 0), (1, 0, 2, 3), (2, 0, 1, 1), (3, 0, 3, 0), (4, 0, 0, 2)]:
        up, down = double[1].clone(), double[1].clone()
        up[place] += small
        down[place] -= small
        slope = (loss_by_hand(double, up, 0.3) - loss_by_hand(double, down, 0.3)) / (2 * small)
        assert float(gradient[place]) == pytest.approx(slope, rel=1e-5, abs=1e-9)


def test_unrolled_loss__gradient_of_step_size_is_that_of_finite_differences(double: Double) -> None:
    lr, small = torch.tensor(0.3, dtype=torch.float64, requires_grad=True), 1e-6
    (gradient,) = torch.autograd.grad(ours(double, double[1], lr), lr)
    up, down = (loss_by_hand(double, double[1], 0.3 + sign * small) for sign in (1, -1))
    assert float(gradient) == pytest.approx((up - down) / (2 * small), rel=1e-6)


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_functional_forward__is_the_network_with_other_parameters(norm: str) -> None:
    """Whatever parameters and running statistics the network has of its own."""
    x, made = torch.randn(6, 1, 4, 4, generator=fork(0, "x")), network(norm)
    theta, other = flat_parameters(made), network(norm, seed=1).train()
    functional_forward(other, theta, 3 * x + 1, Machine())  # moves the running statistics
    found = functional_forward(other, theta, x, Machine())
    torch.testing.assert_close(found, made.train()(x))


# a step


def restated_batches(
    method: MTT, of: Problem, state: TrajectoryState
) -> list[tuple[Tensor, Tensor]]:
    """What the student will see at the next step; the state is not touched."""
    generators = copy.deepcopy([state.batch_generator, state.augmentation_generator])
    y = torch.arange(4).repeat_interleave(of.count // 4)
    drawn = Batches.over(of.count, generators[0])
    taken = [drawn.draw(method.syn_batch or of.count) for _ in range(method.syn_steps)]
    return [(Dsa()(state.x_syn.detach()[index], generators[1]), y[index]) for index in taken]


@pytest.mark.parametrize("syn_batch", [None, 3])
def test_step__loss_is_that_of_plain_training_from_an_expert(syn_batch: int | None) -> None:
    method = replace(TINY, syn_batch=syn_batch)
    of, state = begun(method, problem(8))
    for _ in range(3):
        draws, batches = copy.deepcopy(state.start_generator), restated_batches(method, of, state)
        number = int(torch.randint(2, (), generator=draws))
        epoch = int(torch.randint(3, (), generator=draws))
        start, goal = state.experts.trajectory(number)[[epoch, epoch + 1]]
        student = NETWORK(image_size=8, channels=1, outputs=4)
        nn.utils.vector_to_parameters(start.clone(), student.parameters())
        theta = by_hand(student, batches, float(state.student_lr.detach()))
        expected = float(((theta - goal) ** 2).sum() / ((start - goal) ** 2).sum())
        found = method.step(of, state)
        assert float(found["outer_loss"]) == pytest.approx(expected, rel=1e-4)
        assert found["start_epoch"] == epoch


def test_step__moves_images_and_step_size_by_sgd_with_momentum() -> None:
    method = replace(TINY, outer_lr=0.7, student_lr_lr=1e-4)
    of, state = begun(method)
    x, lr = [state.x_syn.detach().clone()], [state.student_lr.detach().clone()]
    slopes = []
    for _ in range(2):
        method.step(of, state)
        assert state.x_syn.grad is not None and state.student_lr.grad is not None
        slopes.append((state.x_syn.grad.clone(), state.student_lr.grad.clone()))
        x.append(state.x_syn.detach().clone())
        lr.append(state.student_lr.detach().clone())
    (x1, lr1), (x2, lr2) = slopes
    torch.testing.assert_close(x[1] - x[0], -0.7 * x1, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(x[2] - x[1], -0.7 * (x2 + 0.5 * x1), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(lr[1], lr[0] - 1e-4 * lr1)
    torch.testing.assert_close(lr[2], lr[1] - 1e-4 * (lr2 + 0.5 * lr1))


@pytest.mark.parametrize(("latest", "epochs"), [(2, {0, 1, 2}), (0, {0})])
def test_step__start_epochs_are_all_up_to_the_latest(latest: int, epochs: set[int]) -> None:
    method = replace(TINY, syn_steps=1, max_start_epoch=latest)
    of, state = begun(method)
    assert {method.step(of, state)["start_epoch"] for _ in range(15)} == epochs


def test_mtt__experts_that_are_too_short_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"expert_epochs=3: .* epoch 3 and match 1 more; .* 4"):
        replace(TINY, max_start_epoch=3)


def test_mtt__other_runs_share_experts_of_a_seed() -> None:
    method = replace(TINY, expert_seed=7)
    one, other = (method.init(problem(seed=seed)).experts for seed in (0, 1))
    assert one.identity == other.identity
    first, second = (TINY.init(problem(seed=seed)).experts for seed in (0, 1))
    assert first.identity != second.identity


# what it starts from and what it gives


@pytest.mark.parametrize("zca", [True, False])
def test_mtt__starts_from_real_images_of_each_class(zca: bool) -> None:
    method = replace(TINY, zca=zca)
    _, state = begun(method, problem(8))
    images = state.experts.source
    assert images.labels is not None
    every = images.normalized(slice(None))
    for number, x in enumerate(state.x_syn.detach()):
        same = torch.nonzero((every == x).flatten(1).all(1)).flatten()
        assert images.labels[same].tolist() == [number // 2]


@pytest.mark.parametrize("zca", [True, False])
def test_mtt__artefact_has_whitening_and_learned_step_size(zca: bool, tmp_path: Path) -> None:
    method = replace(TINY, zca=zca, outer_steps=3)
    of = problem()
    distilled = distill(method, of, folder=tmp_path)
    assert (distilled.normalizer.zca is not None) == zca and distilled.pixel_space == "normalized"
    assert distilled.targets.tolist() == [0, 1, 2, 3] and distilled.target_kind == "hard-label"
    learned = distilled.provenance["learned"]["student_lr"]
    assert learned != 0.05 and learned == pytest.approx(0.05, abs=1e-3)


def test_zca__ridge_is_that_of_the_released_code_where_channels_spread_alike() -> None:
    images = toy_images()
    unit = images.unit_pixels(slice(None)).flatten(1).double()
    centred = unit - unit.mean(0)
    covariance = centred.T @ centred / len(unit)
    values, vectors = torch.linalg.eigh(covariance)
    released = centred @ vectors @ torch.diag((values.clamp_min(0) + 0.1).rsqrt()) @ vectors.T
    whitened = images.whitened(ridge_of_mean=0.1 / float(values.mean()))
    found = whitened.normalized(slice(None)).flatten(1).double()
    torch.testing.assert_close(found, released, rtol=1e-4, atol=1e-5)


# stability


def test_step_size__that_leaves_its_range_is_kept_there_and_said() -> None:
    method = replace(TINY, student_lr_lr=1e3, student_lr_range=4.0)
    of, state = begun(method)
    with pytest.warns(NumericalWarning, match=r"student_lr became .* at step 0 .*0.0125, 0.2\]"):
        method.step(of, state)
    counts = [int(method.step(of, state)["clipped"]) for _ in range(4)]  # a second warning raises
    assert counts == sorted(counts) and counts[-1] >= 2
    assert float(state.student_lr.detach()) in (pytest.approx(0.0125), pytest.approx(0.2))


def test_step_size__without_a_range_is_updated_as_published() -> None:
    method = replace(TINY, student_lr=2.0, student_lr_lr=1e3, student_lr_range=None)
    of, state = begun(method)
    assert method.step(of, state)["clipped"] == 0
    assert abs(float(state.student_lr.detach())) > 100
