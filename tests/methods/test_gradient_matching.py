"""DC and DSA against a restatement of the released loop, their gradients, and their switches."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from factories import toy_images, weights
from torch import Tensor, nn

from datastill.core.rng import fork
from datastill.methods._classes import random_network, sample_class, sample_each_class
from datastill.methods._gradient_matching import (
    GradientMatching,
    GradientMatchingState,
    gradient_distance,
    matching_loss,
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


@dataclass(frozen=True)
class Smooth(Architecture):
    """One convolution and a softplus: finite differences need a second derivative."""

    def build_body(self, image_size: int, channels: int) -> tuple[nn.Module, int]:
        layers = nn.Conv2d(channels, 3, 3, stride=2), nn.Softplus(), nn.Flatten()
        return nn.Sequential(*layers), 3 * ((image_size - 1) // 2) ** 2

    def min_size(self) -> int:
        return 3


def a_problem(network: Architecture = INSTANCE, count: int = COUNT) -> Problem:
    return Problem(toy_images(), None, count, seed=SEED, network=network)


def run(method: GradientMatching, problem: Problem, steps: int) -> GradientMatchingState:
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

    def __init__(self, method: GradientMatching, problem: Problem, x_syn: Tensor) -> None:
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
            index = sample_each_class(self.problem, 16, self.real)
            network(self.problem.images.normalized(index))
            for module in network.modules():
                if "BatchNorm" in type(module).__name__:
                    module.eval()

    def loss(self, network: nn.Module) -> Tensor:
        total = torch.tensor(0.0)
        for label in range(CLASSES):
            index = sample_class(self.problem, label, 4, self.real)
            real = self.problem.images.normalized(index)
            syn = self.x_syn[label * PER_CLASS : (label + 1) * PER_CLASS]
            again = torch.Generator()
            again.set_state(self.views.get_state())
            real = self.method.augmentation(real, self.views, siamese=True)
            syn = self.method.augmentation(syn, again, siamese=True)
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
                x = self.method.augmentation(self.x_syn.detach()[index], self.views)
                picked = F.log_softmax(network(x), 1)[range(len(x)), self.labels[index]]
                gradients = torch.autograd.grad(-picked.mean(), list(network.parameters()))
                with torch.no_grad():
                    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                        parameter -= 0.01 * gradient


@both
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_gradient_matching__equals_the_released_loop(method: GradientMatching, norm: str) -> None:
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


def test_gradient_matching__gradient_of_images_equals_finite_differences() -> None:
    problem, generator = a_problem(Smooth()), fork(0, "pixels")
    state = DC_OURS.init(problem)
    state.network.double()
    x_real = torch.randn(4, 1, 8, 8, generator=generator, dtype=torch.float64)
    x_syn = torch.randn(2, 1, 8, 8, generator=generator, dtype=torch.float64)

    def loss(x: Tensor) -> Tensor:
        return matching_loss(state.network, x_real, x, 1, problem.machine)

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
    method: GradientMatching,
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


def objective(method: GradientMatching, problem: Problem, images: Tensor) -> float:
    """The mean distance on networks and real images that the images were not learned on."""
    judge, judging = replace(method, outer_lr=1e-12), replace(problem, seed=99)
    state = judge.init(judging)
    state.x_syn.data.copy_(images)
    return sum(float(judge.step(judging, state)["outer_loss"]) for _ in range(6)) / 6


@pytest.mark.parametrize(
    ("method", "share"), [(DC_OURS, 0.85), (DSA_OURS, 0.92)], ids=["dc", "dsa"]
)
def test_gradient_matching__distance_falls_below_that_of_frozen_images(
    method: GradientMatching, share: float
) -> None:
    problem = a_problem()
    method = replace(method, networks=8, class_batch=6, inner_epochs=3, inner_lr=0.05)
    first = method.init(problem).x_syn.detach()
    last = run(method, problem, method.length(problem)).x_syn.detach()
    assert objective(method, problem, last) < share * objective(method, problem, first)
