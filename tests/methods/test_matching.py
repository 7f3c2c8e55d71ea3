"""DC, DSA and DM against restatements of the released loops, gradients, and switches."""

from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from factories import toy_images, toy_problem, weights
from torch import Tensor, nn

from datastill.augment.dsa import Dsa
from datastill.core.errors import ConfigError
from datastill.core.machine import Machine
from datastill.core.rng import fork
from datastill.distill import distill
from datastill.methods._classes import (
    MatchingState,
    class_batches,
    random_network,
    sample_class,
    sample_each_class,
)
from datastill.methods._gradient_matching import (
    GradientMatching,
    gradient_distance,
    matching_loss,
    published_loops,
)
from datastill.methods.dc import DC
from datastill.methods.dm import DM
from datastill.methods.dsa import DSA
from datastill.networks.architecture import Architecture
from datastill.networks.convnet import ConvNet
from datastill.problem import Problem

COUNT, CLASSES, PER_CLASS, SEED = 8, 4, 2, 3
INSTANCE = ConvNet(widths=(4, 8), norm="instance")
DC_OURS = DC(networks=2, outer_loops=3, inner_epochs=2, class_batch=4, inner_batch=5)
DSA_OURS = DSA(networks=2, outer_loops=3, inner_epochs=2, class_batch=4, inner_batch=5)
BATCH = ConvNet(widths=(4, 8), norm="batch")
DM_OURS = DM(outer_steps=4, class_batch=5)
MatchingMethod = GradientMatching | DM
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


def run(method: MatchingMethod, problem: Problem, steps: int) -> MatchingState:
    state: MatchingState = method.init(problem)
    for _ in range(steps):
        method.step(problem, state)
    return state


def test_gradient_distance__of_a_dead_channel_is_one_and_has_a_finite_gradient() -> None:
    syn = torch.zeros(1, 5, requires_grad=True)
    found = gradient_distance([torch.ones(1, 5)], [syn])
    assert float(found.detach()) == 1
    assert torch.autograd.grad(found, syn)[0].isfinite().all()


# The loop


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
        for ours, released_weight in zip(weights(before_last), weights(network), strict=True):
            torch.testing.assert_close(ours, released_weight, atol=1e-4, rtol=1e-4)


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


@pytest.mark.parametrize("method", [DC_OURS, DSA_OURS, DM_OURS], ids=["dc", "dsa", "dm"])
def test_matching__labels_are_in_order(method: MatchingMethod) -> None:
    distilled = distill(method, a_problem())
    assert distilled.targets.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert (distilled.target_kind, distilled.pixel_space) == ("hard-label", "normalized")


@pytest.mark.parametrize(
    "method", [DSA_OURS, DM_OURS, replace(DC_OURS, initial_images="real")], ids=["dsa", "dm", "dc"]
)
def test_matching__starts_from_different_real_images_of_each_class(method: MatchingMethod) -> None:
    problem = a_problem()
    x_syn = method.init(problem).x_syn.detach()
    source = problem.images.normalized(slice(None))
    chosen = [int((source - x).abs().amax((1, 2, 3)).argmin()) for x in x_syn]
    assert problem.labels[chosen].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(set(chosen)) == COUNT
    torch.testing.assert_close(source[chosen], x_syn)


def test_dc__starts_from_normal_noise_by_default() -> None:
    x = DC_OURS.init(toy_problem(20)).x_syn.detach()
    assert x.shape == (20, 1, 8, 8)
    assert abs(float(x.mean())) < 0.1 and float(x.std()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("per_class", "loops"),
    [(1, (1, 1)), (10, (10, 50)), (20, (20, 25)), (30, (30, 20)), (40, (40, 15)), (50, (50, 10)),
     (2, (10, 50)), (9, (10, 50)), (11, (20, 25)), (51, (50, 10)), (500, (50, 10))],
)  # fmt: skip
def test_gradient_matching__loops_depend_on_images_per_class_as_released(
    per_class: int, loops: tuple[int, int]
) -> None:
    """Other counts take the loops of the next larger published one."""
    assert published_loops(per_class) == loops
    problem = Problem(toy_images(2000), None, 4 * per_class, network=INSTANCE)
    assert DC().length(problem) == 1000 * loops[0]
    assert DSA(outer_loops=7).length(problem) == 7000


def test_dsa__without_strategies_is_dc() -> None:
    assert DC_OURS.augmentation.strategies == ()
    problem = a_problem()
    plain = replace(DSA_OURS, strategies=(), initial_images="noise")
    assert torch.equal(run(plain, problem, 4).x_syn, run(DC_OURS, problem, 4).x_syn)


@pytest.mark.parametrize("kind", [DSA, DM])
def test_matching__unknown_strategy_is_refused(kind: type[DSA | DM]) -> None:
    with pytest.raises(ConfigError, match="there is no 'spin' among the strategies"):
        kind(strategies=("flip", "spin"))


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


# DM


class PlainDM:
    """The loss and its update, stated with loops over classes and images."""

    def __init__(self, method: DM, problem: Problem, x_syn: Tensor) -> None:
        self.method, self.problem = method, problem
        self.x_syn, self.velocity = x_syn, torch.zeros_like(x_syn)
        self.real, self.views = fork(SEED, "real-images"), fork(SEED, "views")
        self.steps = 0

    def batches(self, x_syn: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        real, syn = [], []
        for label in range(CLASSES):
            index = sample_class(self.problem, label, 5, self.real)
            again = torch.Generator()
            again.set_state(self.views.get_state())
            x = self.problem.images.normalized(index)
            real.append(self.augmented(x, self.views))
            syn.append(self.augmented(x_syn[label * PER_CLASS :][:PER_CLASS], again))
        return real, syn

    def augmented(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return Dsa(self.method.strategies)(x, generator, siamese=True)

    def step(self) -> float:
        network = random_network(self.problem, self.steps)
        x_syn = self.x_syn.detach().requires_grad_()
        real, syn = self.batches(x_syn)
        if self.problem.network == BATCH:  # statistics of all classes, for each side
            f_real = list(network.embed(torch.cat(real)).split(5))
            f_syn = list(network.embed(torch.cat(syn)).split(PER_CLASS))
        else:
            f_real, f_syn = ([network.embed(x) for x in xs] for xs in (real, syn))
        loss = torch.tensor(0.0)
        for a, b in zip(f_real, f_syn, strict=True):
            mean_a, mean_b = sum(a.detach()) / len(a), sum(b) / len(b)
            loss = loss + sum((mean_a - mean_b) ** 2)
        self.velocity = 0.5 * self.velocity + torch.autograd.grad(loss, x_syn)[0]
        self.x_syn = self.x_syn - self.method.outer_lr * self.velocity
        self.steps += 1
        return float(loss.detach()) / CLASSES


@pytest.mark.parametrize("network", [INSTANCE, BATCH], ids=["instance", "batch"])
@pytest.mark.parametrize("strategies", [(), DM_OURS.strategies], ids=["plain", "dsa"])
def test_dm__equals_a_plain_statement(network: ConvNet, strategies: tuple[str, ...]) -> None:
    problem, method = a_problem(network), replace(DM_OURS, strategies=strategies)
    state = method.init(problem)
    plain = PlainDM(method, problem, state.x_syn.detach().clone())
    for _ in range(4):
        metrics = method.step(problem, state)
        assert float(metrics["outer_loss"]) == pytest.approx(plain.step(), rel=1e-4)
        torch.testing.assert_close(state.x_syn.detach(), plain.x_syn, atol=1e-4, rtol=1e-4)
