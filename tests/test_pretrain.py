"""Pre-training: the published row for each kind of target, repeated and resumed exactly."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from factories import NETWORK, KilledError, always_saving, equal, killed_at, toy_problem, weights

from datastill.augment.dsa import Dsa
from datastill.core.errors import ConfigError
from datastill.core.machine import Machine
from datastill.core.rng import seeded
from datastill.distill import distill
from datastill.distilled_set import DistilledSet
from datastill.methods.random_subset import RandomSubset
from datastill.networks.architecture import Network
from datastill.ops.optimizers import AdamW, Sgd
from datastill.ops.schedules import Constant, Cosine, HalfDrop
from datastill.pretrain import LOSSES, PRETRAINING, Pretraining, pretrain
from datastill.transfer.held_out import HeldOut

MODULE = sys.modules["datastill.pretrain"]  # the package has a function of that name
KINDS = ["hard-label", "soft-label", "representation"]
STEPS = 6


def a_set(kind: str) -> DistilledSet:
    problem = toy_problem(12)
    if kind == "hard-label":
        return distill(RandomSubset(targets="class-label"), problem)
    return replace(distill(RandomSubset(), problem), target_kind=kind)


def short(kind: str) -> Pretraining:
    row = PRETRAINING[kind]
    schedule = Cosine(warmup_steps=2) if isinstance(row.schedule, Cosine) else row.schedule
    return replace(row, steps=STEPS, batch=5, schedule=schedule)


PUBLISHED = {
    "representation": Pretraining(
        Sgd(lr=0.1, momentum=0.9, weight_decay=1e-3),
        Constant(),
        augmentation=None,
        batch=256,
        epochs=1000,
        steps=None,
    ),
    "hard-label": Pretraining(
        Sgd(lr=0.01, momentum=0.9, weight_decay=5e-4),
        HalfDrop(0.1),
        augmentation=Dsa(),
        batch=256,
        epochs=1000,
        steps=None,
    ),
    "soft-label": Pretraining(
        AdamW(lr=3e-4, weight_decay=0.0),
        Cosine(warmup_steps=500),
        augmentation=Dsa(),
        batch=500,
        steps=10_000,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pretraining__is_as_published(kind: str) -> None:
    assert PRETRAINING[kind] == PUBLISHED[kind]


@pytest.mark.parametrize(("count", "expected"), [(1000, 4000), (2000, 8000), (10, 1000)])
def test_pretraining__length_is_that_of_the_paper(count: int, expected: int) -> None:
    assert PRETRAINING["representation"].length(count) == expected


def test_losses__are_those_of_their_kind() -> None:
    outputs, targets = (
        torch.tensor([[1.0, 2.0], [0.0, 4.0]]),
        torch.tensor([[0.0, 2.0], [2.0, 2.0]]),
    )
    assert float(LOSSES["representation"](outputs, targets)) == 9 / 4
    assert float(LOSSES["soft-label"](outputs, targets)) == 9 / 4  # ½ · (1 + 8) / 2
    labels = torch.tensor([1, 0])
    by_hand = -torch.log_softmax(outputs, 1)[[0, 1], labels].mean()
    torch.testing.assert_close(LOSSES["hard-label"](outputs, labels), by_hand)


@pytest.mark.parametrize("kind", KINDS)
def test_pretrain__row_is_chosen_by_the_kind_of_target(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {k: short(k) for k in KINDS}
    monkeypatch.setattr(MODULE, "PRETRAINING", rows)
    chosen = pretrain(NETWORK, a_set(kind))
    given = pretrain(NETWORK, a_set(kind), pretraining=short(kind))
    assert equal(weights(chosen), weights(given))


@pytest.mark.parametrize("kind", KINDS)
def test_pretrain__same_seed_gives_the_same_network(kind: str) -> None:
    first, again, other = (
        weights(pretrain(NETWORK, a_set(kind), seed=seed, pretraining=short(kind)))
        for seed in (0, 0, 1)
    )
    assert equal(first, again) and not equal(first, other)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [0, 1, 4, STEPS - 1])
def test_pretrain__resumes_bit_for_bit(
    kind: str, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*, saved: bool) -> Network:
        saving = always_saving(tmp_path) if saved else None
        return pretrain(NETWORK, a_set(kind), pretraining=short(kind), saving=saving)

    whole = run(saved=False)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(MODULE, "train_step", killed_at(step, MODULE.train_step))
        run(saved=True)
    assert equal(weights(run(saved=True)), weights(whole))


def test_pretrain__one_step_is_sgd_on_the_mean_square_error() -> None:
    distilled = a_set("representation")
    row = replace(PRETRAINING["representation"], steps=1)
    with seeded(0, "pre-trained-network"):
        network = NETWORK(image_size=8, channels=1, outputs=5)
    loss = F.mse_loss(network.train()(distilled.network_input()), distilled.targets)
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    trained = pretrain(NETWORK, distilled, pretraining=row)
    for found, start, gradient in zip(
        trained.parameters(), network.parameters(), gradients, strict=True
    ):
        torch.testing.assert_close(
            found, start - 0.1 * (gradient + 1e-3 * start), atol=1e-5, rtol=1e-4
        )


def test_pretrain__leaves_set_and_global_generator_alone() -> None:
    distilled = a_set("hard-label")
    before = distilled.fingerprint, torch.get_rng_state()
    pretrain(NETWORK, distilled, pretraining=short("hard-label"))
    assert distilled.fingerprint == before[0] and torch.equal(torch.get_rng_state(), before[1])


def test_held_out__pre_training_on_a_set_explains_its_own_images() -> None:
    problem = toy_problem(24)
    distilled = distill(RandomSubset(), problem)
    row = replace(PRETRAINING["representation"], steps=80)
    held_out = HeldOut(problem.images, problem.needed_target)
    trained = held_out.r2(pretrain(NETWORK, distilled, pretraining=row), Machine())
    fresh = held_out.r2(NETWORK(image_size=8, channels=1, outputs=5), Machine())
    assert fresh < 0.3 < 0.7 < trained <= 1


def test_held_out__the_target_itself_explains_everything() -> None:
    problem = toy_problem()
    plain = replace(problem.needed_target, offset=torch.zeros(1), scale=torch.ones(1))
    _, network = plain.require_network()
    assert HeldOut(problem.images, plain).r2(network, Machine()) == pytest.approx(1, abs=1e-6)


def test_held_out__network_of_other_outputs_is_refused() -> None:
    problem = toy_problem()
    network = NETWORK(image_size=8, channels=1, outputs=3)
    with pytest.raises(ConfigError, match="has 3 outputs, the target model 5"):
        HeldOut(problem.images, problem.needed_target).r2(network, Machine())
