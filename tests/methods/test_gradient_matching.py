"""DC and DSA against a restatement of the released loop, their gradients, and their switches."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toys import toy_images, toy_problem, weights

from datastill.augment.dsa import Dsa
from datastill.distill import distill
from datastill.ground.errors import ConfigError
from datastill.ground.machine import Machine
from datastill.ground.rng import fork
from datastill.methods import _gradient_matching
from datastill.methods._base import Problem
from datastill.methods._class_matching import class_pair, random_network
from datastill.methods._classes import draw_of_class, draw_of_each_class
from datastill.methods._gradient_matching import (
    AbstractGradientMatching,
    GradientMatchingState,
    gradient_distance,
    published_loops,
)
from datastill.methods.dc import DC
from datastill.methods.dsa import DSA
from datastill.networks._base import AbstractArchitecture
from datastill.networks.convnet import ConvNet

COUNT, CLASSES, PER_CLASS, SEED = 8, 4, 2, 3
INSTANCE = ConvNet(widths=(4, 8), norm="instance")
DC_OURS = DC(networks=2, outer_loops=3, inner_epochs=2, class_batch=4, inner_batch=5)
DSA_OURS = DSA(networks=2, outer_loops=3, inner_epochs=2, class_batch=4, inner_batch=5)
both = pytest.mark.parametrize("method", [DC_OURS, DSA_OURS], ids=["dc", "dsa"])


@dataclass(frozen=True)
class Smooth(AbstractArchitecture):
    """One convolution and a softplus: finite differences need a second derivative."""

    def build_body(self, image_size: int, channels: int) -> tuple[nn.Module, int]:
        layers = nn.Conv2d(channels, 3, 3, stride=2), nn.Softplus(), nn.Flatten()
        return nn.Sequential(*layers), 3 * ((image_size - 1) // 2) ** 2

    def min_size(self) -> int:
        return 3


def a_problem(network: AbstractArchitecture = INSTANCE, count: int = COUNT) -> Problem:
    return Problem(toy_images(), None, count, seed=SEED, network=network)


def run(method: AbstractGradientMatching, problem: Problem, steps: int) -> GradientMatchingState:
    state = method.init(problem)
    for _ in range(steps):
        method.step(problem, state)
    return state


# --- the distance -------------------------------------------------------------------------------


def released_distance(real: np.ndarray, syn: np.ndarray) -> float:
    """Channel by channel, number by number; vectors are worth nothing."""
    if real.ndim == 1:
        return 0.0
    total = 0.0
    for a, b in zip(real, syn, strict=True):
        pairs = list(zip(a.ravel(), b.ravel(), strict=True))
        dot = sum(x * y for x, y in pairs)
        lengths = [sum(p[k] ** 2 for p in pairs) ** 0.5 for k in (0, 1)]
        total += 1 - dot / (lengths[0] * lengths[1] + 1e-6)
    return float(total)


@pytest.mark.parametrize("shape", [(5, 3, 2, 2), (4, 3, 3), (6, 7), (2, 1)], ids=str)
def test_gradient_distance__equals_loops_over_channels(shape: tuple[int, ...]) -> None:
    generator = fork(0, "gradients")
    real, syn = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    found = gradient_distance([real], [syn])
    assert float(found) == pytest.approx(released_distance(real.numpy(), syn.numpy()))


def test_gradient_distance__adds_up_layers() -> None:
    generator = fork(0, "gradients")
    shapes = [(3, 2, 3, 3), (4, 5)]
    real, syn = ([torch.randn(s, generator=generator) for s in shapes] for _ in range(2))
    apart = [gradient_distance([a], [b]) for a, b in zip(real, syn, strict=True)]
    assert torch.equal(gradient_distance(real, syn), apart[0] + apart[1])


def test_gradient_distance__ignores_the_length_of_gradients() -> None:
    real = torch.randn(4, 5, generator=fork(0, "gradients"))
    assert float(gradient_distance([real], [1000 * real])) == pytest.approx(0, abs=1e-5)
    assert float(gradient_distance([real], [-real])) == pytest.approx(2 * 4, abs=1e-5)


def test_gradient_distance__of_a_dead_channel_is_one_and_has_a_finite_gradient() -> None:
    syn = torch.zeros(1, 5, requires_grad=True)
    found = gradient_distance([torch.ones(1, 5)], [syn])
    assert float(found.detach()) == 1
    assert torch.autograd.grad(found, syn)[0].isfinite().all()


# --- the loop -----------------------------------------------------------------------------------


class Released:
    """The released loop, restated: all parameters, one backward pass, all classes in one sum."""

    def __init__(self, method: AbstractGradientMatching, problem: Problem, x_syn: Tensor) -> None:
        self.method, self.problem = method, problem
        self.x_syn = x_syn.requires_grad_()
        self.velocity = torch.zeros_like(x_syn)
        self.labels = torch.arange(CLASSES).repeat_interleave(PER_CLASS)
        self.real, self.views = fork(SEED, "real-images"), fork(SEED, "views")
        self.order = fork(SEED, "inner-order")

    def life(self, number: int) -> nn.Module:
        """Everything that happens to one network; return it as it is in the end."""
        network = random_network(self.problem, number)
        for outer_loop in range(3):
            self.freeze(network)
            gradient = torch.autograd.grad(self.loss(network), self.x_syn)[0]
            self.velocity = 0.5 * self.velocity + gradient
            self.x_syn = (self.x_syn - 0.1 * self.velocity).detach().requires_grad_()
            if outer_loop < 2:
                self.train(network)
        return network

    def freeze(self, network: nn.Module) -> None:
        network.train()
        if any("BatchNorm" in type(m).__name__ for m in network.modules()):
            index = draw_of_each_class(self.problem, 16, self.real)
            network(self.problem.images.normalized(index))
            for module in network.modules():
                if "BatchNorm" in type(module).__name__:
                    module.eval()

    def loss(self, network: nn.Module) -> Tensor:
        total = torch.tensor(0.0)
        for label in range(CLASSES):
            index = draw_of_class(self.problem, label, 4, self.real)
            real = self.problem.images.normalized(index)
            syn = self.x_syn[label * PER_CLASS : (label + 1) * PER_CLASS]
            again = torch.Generator()
            again.set_state(self.views.get_state())
            real = self.method.dsa(real, self.views, siamese=True)
            syn = self.method.dsa(syn, again, siamese=True)
            g_real, g_syn = (
                self.gradients(network, real, label),
                self.gradients(network, syn, label),
            )
            for a, b in zip(g_real, g_syn, strict=True):
                if a.dim() > 1:
                    a, b = a.detach().reshape(len(a), -1), b.reshape(len(b), -1)
                    cosines = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-6)
                    total = total + (1 - cosines).sum()
        return total

    def gradients(self, network: nn.Module, x: Tensor, label: int) -> tuple[Tensor, ...]:
        loss = -F.log_softmax(network(x), 1)[:, label].mean()
        return torch.autograd.grad(loss, list(network.parameters()), create_graph=True)

    def train(self, network: nn.Module) -> None:
        network.train()
        for _ in range(2):
            order = torch.randperm(COUNT, generator=self.order)
            for index in (order[:5], order[5:]):
                x = self.method.dsa(self.x_syn.detach()[index], self.views)
                picked = F.log_softmax(network(x), 1)[range(len(x)), self.labels[index]]
                gradients = torch.autograd.grad(-picked.mean(), list(network.parameters()))
                with torch.no_grad():
                    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                        parameter -= 0.01 * gradient


@both
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_gradient_matching__equals_the_released_loop(
    method: AbstractGradientMatching, norm: str
) -> None:
    problem = a_problem(replace(INSTANCE, norm=norm))
    state = method.init(problem)
    released = Released(method, problem, state.x_syn.detach().clone())
    for number in range(2):
        for _ in range(2):
            method.step(problem, state)
        before_last = state.network
        method.step(problem, state)
        network = released.life(number)
        torch.testing.assert_close(state.x_syn, released.x_syn, atol=1e-4, rtol=1e-4)
        for ours, theirs in zip(weights(before_last), weights(network), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_gradient_matching__gradient_of_images_equals_finite_differences(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem, generator = a_problem(Smooth()), fork(0, "pixels")
    state = DC_OURS.init(problem)
    state.network.double()
    x_real = torch.randn(4, 1, 8, 8, generator=generator, dtype=torch.float64)
    x_syn = torch.randn(2, 1, 8, 8, generator=generator, dtype=torch.float64)

    def loss(x: Tensor) -> Tensor:
        monkeypatch.setattr(_gradient_matching, "class_pair", lambda *_, **__: (x_real, x))
        return DC_OURS._matching_loss(problem, state, 1)

    assert torch.autograd.gradcheck(loss, (x_syn.requires_grad_(),))


def test_gradient_matching__logs_the_mean_distance_of_the_classes() -> None:
    problem = a_problem()
    state = DC_OURS.init(problem)
    expected = Released(DC_OURS, problem, state.x_syn.detach().clone()).loss(state.network)
    found = DC_OURS.step(problem, state)
    assert float(found["outer_loss"]) == pytest.approx(float(expected.detach()) / CLASSES, rel=1e-4)
    assert found["outer_loop"] == 0


@both
def test_gradient_matching__a_network_lives_its_outer_loops(
    method: AbstractGradientMatching,
) -> None:
    problem = a_problem()
    state = method.init(problem)
    networks, loops = [], []
    for _ in range(method.length(problem)):
        networks.append(id(state.network))
        loops.append(method.step(problem, state)["outer_loop"])
    assert loops == [0, 1, 2, 0, 1, 2]
    assert [networks.index(n) for n in networks] == [0, 0, 0, 3, 3, 3]


def test_gradient_matching__no_inner_epochs_leave_the_network_untrained() -> None:
    problem = a_problem()
    state = run(replace(DC_OURS, inner_epochs=0), problem, steps=2)
    born = weights(random_network(problem, 0))
    assert all(map(torch.equal, weights(state.network), born))


def objective(method: AbstractGradientMatching, problem: Problem, images: Tensor) -> float:
    """The mean distance on networks and real images that the images were not learned on."""
    judge, judging = replace(method, outer_lr=1e-12), replace(problem, seed=99)
    state = judge.init(judging)
    state.x_syn.data.copy_(images)
    return sum(float(judge.step(judging, state)["outer_loss"]) for _ in range(6)) / 6


@pytest.mark.parametrize(
    ("method", "share"), [(DC_OURS, 0.85), (DSA_OURS, 0.92)], ids=["dc", "dsa"]
)
def test_gradient_matching__distance_falls_below_that_of_frozen_images(
    method: AbstractGradientMatching, share: float
) -> None:
    problem = a_problem()
    method = replace(method, networks=8, class_batch=6, inner_epochs=3, inner_lr=0.05)
    first = method.init(problem).x_syn.detach()
    last = run(method, problem, method.length(problem)).x_syn.detach()
    assert objective(method, problem, last) < share * objective(method, problem, first)


# --- images, classes, augmentation --------------------------------------------------------------


@both
def test_gradient_matching__labels_are_in_order(method: AbstractGradientMatching) -> None:
    distilled = distill(method, a_problem())
    assert distilled.targets.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert (distilled.target_kind, distilled.pixel_space) == ("hard-label", "normalized")


def test_dc__starts_from_normal_noise_by_default() -> None:
    x = DC_OURS.init(toy_problem(20)).x_syn.detach()
    assert x.shape == (20, 1, 8, 8)
    assert abs(float(x.mean())) < 0.1 and float(x.std()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("method", [DSA_OURS, replace(DC_OURS, initial_images="real")], ids=str)
def test_gradient_matching__starts_from_different_real_images_of_each_class(
    method: AbstractGradientMatching,
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


def marked(method: AbstractGradientMatching) -> tuple[Problem, GradientMatchingState]:
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
        x_real, x_syn = class_pair(problem, state, 2, class_batch=5, dsa=DSA_OURS.dsa)
        assert len(x_real) == 5 and len(x_syn) == PER_CLASS
        for x in (*x_real, *x_syn):
            torch.testing.assert_close(x, x_real[0])
        seen.append(x_real[0])
    assert len({tuple(x.detach().flatten().tolist()) for x in seen}) > 6


def test_dc__images_are_not_augmented() -> None:
    problem, state = marked(DC_OURS)
    before = state.views.get_state()
    x_real, x_syn = class_pair(problem, state, 0, class_batch=3, dsa=DC_OURS.dsa)
    assert torch.equal(x_real, problem.images.normalized(slice(0, 3)))
    assert torch.equal(x_syn, state.x_syn[:PER_CLASS])
    assert torch.equal(state.views.get_state(), before)


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
    index = draw_of_each_class(problem, 16, fork(SEED, "real-images"))
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
    x_real, _ = class_pair(problem, DC_OURS.init(problem), 1, class_batch=256, dsa=DC_OURS.dsa)
    assert len(x_real) == 6


@both
def test_gradient_matching__works_in_bfloat16(method: AbstractGradientMatching) -> None:
    problem = replace(a_problem(), machine=Machine(precision="bfloat16"))
    state = method.init(problem)
    before = state.x_syn.detach().clone()
    assert torch.as_tensor(method.step(problem, state)["outer_loss"]).isfinite()
    assert state.x_syn.isfinite().all() and not torch.equal(state.x_syn, before)
