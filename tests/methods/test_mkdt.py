"""MKDT against plain restatements, what it starts from, and that its step size is used."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from factories import equal, toy_problem, toy_target, weights
from torch import Tensor, nn

from datastill.batches import Batches
from datastill.core.errors import ConfigError, NotFiniteError
from datastill.core.machine import Machine
from datastill.core.rng import fork, seeded
from datastill.distill import distill
from datastill.methods._experts import Experts, flat_parameters, source_representations
from datastill.methods._trajectory_matching import TrajectoryState
from datastill.methods.high_loss import HighLoss
from datastill.methods.k_means import KMeans
from datastill.methods.krr_st import KRRST
from datastill.methods.label_solve import LabelSolve
from datastill.methods.mkdt import MKDT
from datastill.methods.mtt import MTT
from datastill.methods.random_subset import RandomSubset
from datastill.networks.convnet import ConvNet
from datastill.ops.optimizers import Sgd
from datastill.pretrain import Pretraining, pretrain
from datastill.problem import Problem
from datastill.protocols.protocol import protocol

NETWORK = ConvNet(widths=(4, 8), norm="instance")
TINY = MKDT(
    experts=2,
    expert_epochs=3,
    expert_batch=10,
    outer_steps=3,
    outer_lr=1.0,
    syn_steps=3,
    syn_batch=3,
    student_lr=0.05,
    student_lr_lr=1e-4,
    matched_epochs=1,
    max_start_epoch=2,
)


def problem(count: int = 6, *, network: ConvNet = NETWORK) -> Problem:
    return replace(toy_problem(count), network=network)


def representations(of: Problem) -> Tensor:
    """The target model's outputs for all source images."""
    return of.represent(torch.arange(len(of.images)))


def experts(of: Problem, method: MKDT = TINY) -> Experts:
    return Experts(of, of.images, method.expert_training(of), source_representations(of))


def chosen(state: TrajectoryState, of: Problem) -> list[int]:
    """Which source images the distilled ones are."""
    every = of.images.normalized(slice(None))
    same = [(every == x).flatten(1).all(1).nonzero().flatten().tolist() for x in state.x_syn]
    return [index for (index,) in same]


# experts


def test_expert__regresses_representations_without_augmentation() -> None:
    of = problem()
    with seeded(0, "expert", 1):
        network = NETWORK(image_size=8, channels=1, outputs=5)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    batches, g = Batches.over(24, fork(0, "expert", 1, "batches")), representations(of)
    expected = [flat_parameters(network)]
    for _ in range(3):
        for _ in range(3):
            index = batches.draw(10)
            optimizer.zero_grad()
            F.mse_loss(network(of.images.normalized(index)), g[index]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        expected.append(flat_parameters(network))
    found = experts(of).trajectory(1)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-5, atol=1e-6)


def test_experts__of_other_targets_are_others() -> None:
    of = problem()
    other = replace(of, target=toy_target(of.images, seed=1))
    classifying = Experts(of, of.images, TINY.expert_training(of))
    identities = [experts(of).identity, experts(other).identity, classifying.identity]
    assert all(identities.count(identity) == 1 for identity in identities)


def test_experts__compute_each_representation_once(monkeypatch: pytest.MonkeyPatch) -> None:
    of, rows = problem(), []
    represent = type(of.needed_target).represent
    monkeypatch.setattr(
        type(of.needed_target), "represent", lambda g, x: rows.append(len(x)) or represent(g, x)
    )
    made = experts(of)
    computed = list(rows)
    made.make(range(2))
    made.mean_losses(2)
    assert computed and rows == computed


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_mean_losses__are_those_of_networks_after_one_epoch(norm: str) -> None:
    of = problem(network=ConvNet((4, 8), norm))  # type: ignore[arg-type]
    made, g, total = experts(of), representations(of), torch.zeros(24)
    order = torch.randperm(24, generator=fork(0, "losses"))
    for number in range(2):
        network = of.new_network(5).train()
        nn.utils.vector_to_parameters(made.trajectory(number)[1].clone(), network.parameters())
        for index in torch.split(order, 10):
            outputs = network(of.images.normalized(index)).detach()
            total[index] += (outputs - g[index]).square().mean(1) / 2
    torch.testing.assert_close(made.mean_losses(2), total, rtol=1e-4, atol=1e-6)


# a step


def test_step__loss_is_that_of_plain_training_from_an_expert() -> None:
    of = problem()
    state = TINY.init(of)
    for _ in range(3):
        draws, batch_generator = copy.deepcopy([state.start_generator, state.batch_generator])
        number = int(torch.randint(2, (), generator=draws))
        epoch = int(torch.randint(3, (), generator=draws))
        start, goal = state.experts.trajectory(number)[[epoch, epoch + 1]]
        student = NETWORK(image_size=8, channels=1, outputs=5)
        nn.utils.vector_to_parameters(start.clone(), student.parameters())
        optimizer = torch.optim.SGD(student.parameters(), lr=float(state.student_lr.detach()))
        batches = Batches.over(6, batch_generator)
        for _ in range(3):
            index = batches.draw(3)
            optimizer.zero_grad()
            F.mse_loss(student(state.x_syn.detach()[index]), state.y_syn[index]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        theta = flat_parameters(student)
        expected = float(((theta - goal) ** 2).sum() / ((start - goal) ** 2).sum())
        found = TINY.step(of, state)
        assert float(found["outer_loss"]) == pytest.approx(expected, rel=1e-4)


def test_mkdt__learns_images_and_step_size_and_leaves_targets(tmp_path: Path) -> None:
    of = problem()
    state = TINY.init(of)
    first, g = state.x_syn.detach().clone(), state.y_syn.clone()
    distilled = distill(TINY, of, folder=tmp_path)
    assert distilled.pixel_space == "normalized" and distilled.target_kind == "representation"
    assert not torch.equal(distilled.images, first) and torch.equal(distilled.targets, g)
    assert torch.equal(g, of.represent(torch.tensor(chosen(state, of))))
    learned = distilled.provenance["learned"]["student_lr"]
    assert learned != 0.05 and learned == pytest.approx(0.05, abs=1e-2)


# first images


def test_mkdt__starts_from_the_highest_losses_of_its_own_experts() -> None:
    of = problem()
    losses = experts(of).mean_losses(2)
    assert chosen(TINY.init(of), of) == losses.topk(6).indices.tolist()


def test_high_loss__takes_the_highest_losses_of_all_or_of_each_class() -> None:
    of, method = problem(), HighLoss(experts=2, expert_batch=10)
    losses = experts(of, replace(TINY, expert_epochs=1, max_start_epoch=0)).mean_losses(2)
    assert method.choose(of).tolist() == losses.topk(6).indices.tolist()
    found = replace(method, targets="class-label").choose(of)
    for k, count in enumerate([2, 2, 1, 1]):
        members = found[of.labels[found] == k]
        of_class = losses.where(of.labels == k, -torch.inf)
        assert members.tolist() == of_class.topk(count).indices.tolist()


def test_high_loss__rate_that_diverges_is_named() -> None:
    with pytest.raises(NotFiniteError, match=r"expert 0: .*lower --method.expert_lr"):
        HighLoss(expert_lr=1e30, expert_batch=4).choose(problem())


@pytest.mark.parametrize(
    ("start", "method"),
    [("random", RandomSubset()), ("high-loss", HighLoss()), ("k-means", KMeans())],
)
def test_start__is_that_of_the_method_of_its_name(
    start: str, method: RandomSubset | HighLoss | KMeans
) -> None:
    of, short = problem(), {"start": start}
    expected = method.choose(of)
    solving = LabelSolve(inner_models=1, max_age=1, **short)  # type: ignore[arg-type]
    assert solving.init(of).start.original.equal(of.images.unit_pixels(expected))
    if start == "random":  # these have named their random numbers differently from the first day
        return
    learning = KRRST(pool_size=1, pixel_space="normalized", **short).init(of)  # type: ignore[arg-type]
    assert chosen(learning, of) == expected.tolist()  # type: ignore[arg-type]
    if start == "k-means":
        assert chosen(replace(TINY, start=start).init(of), of) == expected.tolist()


def test_start__unknown_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="start='hard': expected random or high-loss or k-means"):
        KRRST(start="hard")  # type: ignore[arg-type]


# its step size


def test_pretraining__takes_the_step_size_that_was_learned_with_the_set() -> None:
    settings = Pretraining(Sgd(lr=0.3, momentum=0.5), steps=3, learned_lr=True)
    of = problem()
    for method, rate in [(TINY, None), (RandomSubset(), 0.3)]:
        distilled = distill(method, of)  # type: ignore[arg-type]
        rate = rate or distilled.provenance["learned"]["student_lr"]
        expected = replace(settings, optimizer=Sgd(lr=rate, momentum=0.5), learned_lr=False)
        found, by_hand = (
            pretrain(NETWORK, distilled, pretraining=each) for each in (settings, expected)
        )
        assert equal(weights(found), weights(by_hand))


def test_protocol__of_mkdt_takes_it_for_representations_and_says_so() -> None:
    mkdt, of, machine = protocol("mkdt"), problem(8), Machine()
    origin = mkdt.origin(distill(TINY, of), NETWORK, machine)
    assert origin.options["pretraining"]["learned_lr"] is True
    matching = MTT(zca=False, experts=1, expert_epochs=1, matched_epochs=1, max_start_epoch=0)
    labelled = distill(replace(matching, outer_steps=1, syn_steps=1), of)
    options = mkdt.origin(labelled, NETWORK, machine).options["pretraining"]
    assert "learned_lr" not in options and options["optimizer"]["lr"] == 0.1
    plain = protocol("paper").origin(distill(TINY, of), NETWORK, machine)
    assert "learned_lr" not in plain.options["pretraining"]
