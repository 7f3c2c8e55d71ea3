"""DM against a plain statement of its loss, and each of its switches."""

from dataclasses import replace

import pytest
import torch
from factories import toy_images
from torch import Tensor

from datastill.augment.dsa import Dsa
from datastill.core.errors import ConfigError
from datastill.core.rng import fork
from datastill.distill import distill
from datastill.methods._classes import MatchingState, random_network, sample_class
from datastill.methods.dm import DM
from datastill.methods.method import Problem
from datastill.networks.convnet import ConvNet

COUNT, CLASSES, PER_CLASS, SEED = 8, 4, 2, 3
INSTANCE = ConvNet(widths=(4, 8), norm="instance")
BATCH = ConvNet(widths=(4, 8), norm="batch")
OURS = DM(outer_steps=4, class_batch=5)


def a_problem(network: ConvNet = INSTANCE) -> Problem:
    return Problem(toy_images(), None, COUNT, seed=SEED, network=network)


def run(method: DM, problem: Problem, steps: int) -> MatchingState:
    state = method.init(problem)
    for _ in range(steps):
        method.step(problem, state)
    return state


class Plain:
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
@pytest.mark.parametrize("strategies", [(), OURS.strategies], ids=["plain", "dsa"])
def test_dm__equals_a_plain_statement(network: ConvNet, strategies: tuple[str, ...]) -> None:
    problem, method = a_problem(network), replace(OURS, strategies=strategies)
    state = method.init(problem)
    plain = Plain(method, problem, state.x_syn.detach().clone())
    for _ in range(4):
        found = method.step(problem, state)
        assert float(found["outer_loss"]) == pytest.approx(plain.step(), rel=1e-4)
        torch.testing.assert_close(state.x_syn.detach(), plain.x_syn, atol=1e-4, rtol=1e-4)


def test_dm__each_step_has_another_network() -> None:
    problem, method = a_problem(), replace(OURS, strategies=(), outer_lr=1e-12)
    state = method.init(problem)
    losses = set()
    for _ in range(4):
        state.real_generator.manual_seed(
            0
        )  # the same real images, and distilled ones that hardly move
        losses.add(round(float(method.step(problem, state)["outer_loss"]), 4))
    assert len(losses) == 4


def objective(problem: Problem, images: Tensor) -> float:
    """The mean distance on networks and real images that the images were not learned on."""
    judge, judging = replace(OURS, outer_lr=1e-12), replace(problem, seed=99)
    state = judge.init(judging)
    state.x_syn.data.copy_(images)
    return sum(float(judge.step(judging, state)["outer_loss"]) for _ in range(10)) / 10


@pytest.mark.parametrize("kind", ["noise", "real"])
def test_dm__distance_falls_below_that_of_frozen_images(kind: str) -> None:
    problem, method = a_problem(), replace(OURS, initial_images=kind)
    first = method.init(problem).x_syn.detach()
    last = run(method, problem, 40).x_syn.detach()
    assert objective(problem, last) < 0.6 * objective(problem, first)


def test_dm__labels_are_in_order() -> None:
    distilled = distill(OURS, a_problem())
    assert distilled.targets.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert (distilled.target_kind, distilled.pixel_space) == ("hard-label", "normalized")


def test_dm__starts_from_real_images_or_noise() -> None:
    problem = a_problem()
    source = problem.images.normalized(slice(None)).flatten(1)
    real, noise = (
        replace(OURS, initial_images=kind).init(problem).x_syn.detach().flatten(1)
        for kind in ("real", "noise")
    )
    assert float(torch.cdist(real, source).amin(1).max()) < 1e-2
    assert float(torch.cdist(noise, source).amin(1).min()) > 1


def test_dm__unknown_strategy_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no 'spin' among the strategies"):
        DM(strategies=("spin",))
