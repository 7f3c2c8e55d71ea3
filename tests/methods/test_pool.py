"""The model pool ages as Algorithm 1 says, or as the released code does."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toys import equal, weights

from datastill.ground.machine import Machine
from datastill.ground.rng import fork, seeded
from datastill.maths.optimizers import AdamW, OptimizerSpec, Sgd
from datastill.methods._pool import Member, ModelPool
from datastill.networks._base import AbstractArchitecture, Network

VISITS, SLOTS, MAX_AGE = 500, 4, 7
SGD = Sgd(0.1, momentum=0.9, weight_decay=1e-3)


@dataclass(frozen=True)
class Flat(AbstractArchitecture):
    """A linear map of pixels: trained in no time."""

    def build_body(self, image_size: int, channels: int) -> tuple[nn.Module, int]:
        return nn.Flatten(), channels * image_size**2

    def min_size(self) -> int:
        return 1


def born(slot: int, birth: int) -> Network:
    with seeded(0, "pool", slot, birth):
        return Flat()(image_size=4, channels=1, outputs=2)


def a_pool(
    *,
    size: int = 1,
    max_age: int = 3,
    stale: bool = False,
    make: Callable[[int, int], Network] = born,
    optimizer: OptimizerSpec = SGD,
    loss: Callable[[Tensor, Tensor], Tensor] = F.mse_loss,
) -> ModelPool:
    return ModelPool(
        make,
        size,
        max_age,
        optimizer,
        loss,
        Machine(),
        stale,
    )


def pairs() -> tuple[Tensor, Tensor]:
    generator = fork(0, "pairs")
    return torch.randn(3, 1, 4, 4, generator=generator), torch.randn(3, 2, generator=generator)


def ages(pool: ModelPool, visits: int) -> list[int]:
    members = pool.members()
    found = []
    for _ in range(visits):
        pool.advance(members, 0, *pairs())
        found.append(members[0].age)
    return found


def visited(pool: ModelPool, slots: list[int]) -> list[bool]:
    """Whether each visit trained the model that it found, and did not replace it."""
    members = pool.members()
    pool.spread_ages(members, *pairs(), fork(0, "ages"))
    found = []
    for slot in slots:
        before = members[slot]
        pool.advance(members, slot, *pairs())
        found.append(members[slot] is before)
    return found


def official(starts: list[int], slots: list[int]) -> list[bool]:
    """The released book-keeping: a count for each slot that only ever grows."""
    iterations = list(starts)
    found = []
    for slot in slots:
        trained = iterations[slot] < MAX_AGE
        iterations[slot] += trained
        found.append(trained)
    return found


def schedule() -> list[int]:
    return torch.randint(SLOTS, (VISITS,), generator=fork(0, "slots")).tolist()


def starts() -> list[int]:
    generator = fork(0, "ages")
    return [int(torch.randint(1, MAX_AGE, (), generator=generator)) for _ in range(SLOTS)]


def test_model_pool__replaced_model_ages_from_zero() -> None:
    assert ages(a_pool(), 9) == [1, 2, 3, 0, 1, 2, 3, 0, 1]


def test_model_pool__stale_slot_holds_untrained_models_for_ever() -> None:
    assert ages(a_pool(stale=True), 7) == [1, 2, 3, 0, 0, 0, 0]


def test_model_pool__stale_matches_reference_counts() -> None:
    pool = a_pool(size=SLOTS, max_age=MAX_AGE, stale=True)
    assert visited(pool, schedule()) == official(starts(), schedule())


def test_model_pool__reference_counts_stop_training_at_the_first_expiry() -> None:
    assert not any(official(starts(), schedule())[VISITS // 2 :])


def test_model_pool__keeps_training_for_ever() -> None:
    found = visited(a_pool(size=SLOTS, max_age=MAX_AGE), schedule())
    share = sum(found[VISITS // 2 :]) / (VISITS - VISITS // 2)
    assert share == pytest.approx(MAX_AGE / (MAX_AGE + 1), abs=0.05)


@pytest.mark.parametrize("stale", [False, True])
def test_model_pool__ages_stay_within_the_maximum(stale: bool) -> None:
    pool = a_pool(size=SLOTS, max_age=MAX_AGE, stale=stale)
    members = pool.members()
    pool.spread_ages(members, *pairs(), fork(0, "ages"))
    for slot in schedule():
        pool.advance(members, slot, *pairs())
        assert 0 <= members[slot].age <= MAX_AGE and members[slot].clock <= MAX_AGE


def test_model_pool__only_the_visited_member_changes() -> None:
    pool = a_pool(size=2)
    members = pool.members()
    before = [weights(m.model) for m in members]
    pool.advance(members, 1, *pairs())
    assert equal(weights(members[0].model), before[0])
    assert not equal(weights(members[1].model), before[1])


def test_model_pool__members_differ_from_birth() -> None:
    first, second = a_pool(size=2).members()
    assert not equal(weights(first.model), weights(second.model))


def test_model_pool__each_birth_is_counted() -> None:
    births: list[tuple[int, int]] = []

    def recorded(slot: int, birth: int) -> Network:
        births.append((slot, birth))
        return born(slot, birth)

    ages(a_pool(make=recorded), 9)
    assert births == [(0, 1), (0, 2), (0, 3)]


@pytest.mark.parametrize("optimizer", [SGD, AdamW(0.01)], ids=["sgd", "adamw"])
def test_model_pool__replaced_model_learns_as_a_new_one(optimizer: OptimizerSpec) -> None:
    pool = a_pool(max_age=2, optimizer=optimizer)
    members = pool.members()
    for _ in range(3):  # it is trained twice, then replaced
        pool.advance(members, 0, *pairs())
    new = born(0, 2)
    fresh = [Member(new, optimizer.make(new.parameters()))]
    for _ in range(2):
        assert equal(weights(members[0].model), weights(fresh[0].model))
        for found in (members, fresh):
            pool.advance(found, 0, *pairs())
    assert equal(weights(members[0].model), weights(fresh[0].model))


def test_model_pool__spread_ages_leave_out_the_maximum() -> None:
    pool = a_pool(size=60, max_age=4)
    members = pool.members()
    pool.spread_ages(members, *pairs(), fork(0, "ages"))
    assert {m.age for m in members} == {1, 2, 3}
    assert all(m.age == m.clock for m in members)


def test_model_pool__spread_ages_of_a_maximum_of_one_are_one() -> None:
    pool = a_pool(max_age=1)
    members = pool.members()
    pool.spread_ages(members, *pairs(), fork(0, "ages"))
    assert members[0].age == 1


def test_model_pool__inner_step_is_sgd_on_the_mean_square_error() -> None:
    pool = a_pool()
    members: list[Member] = pool.members()
    by_hand = born(0, 1)
    x, y = pairs()
    loss = ((by_hand(x) - y) ** 2).sum() / y.numel()
    gradients = torch.autograd.grad(loss, list(by_hand.parameters()))
    pool.advance(members, 0, x, y)
    for found, old, gradient in zip(
        members[0].model.parameters(), by_hand.parameters(), gradients, strict=True
    ):
        torch.testing.assert_close(found, old - 0.1 * (gradient + 1e-3 * old))


def test_model_pool__inner_step_takes_any_loss_and_optimizer() -> None:
    pool = a_pool(optimizer=AdamW(0.01), loss=F.l1_loss)
    members = pool.members()
    by_hand = born(0, 1)
    x, y = pairs()
    gradients = torch.autograd.grad((by_hand(x) - y).abs().mean(), list(by_hand.parameters()))
    pool.advance(members, 0, x, y)
    for found, old, gradient in zip(
        members[0].model.parameters(), by_hand.parameters(), gradients, strict=True
    ):  # the first step of Adam
        torch.testing.assert_close(found, old - 0.01 * gradient / (gradient.abs() + 1e-8))


def test_model_pool__staggered_members_are_untrained() -> None:
    pool = a_pool(size=3, max_age=10)
    members, plain = pool.members(staggered=True), pool.members()
    assert [m.clock for m in members] == [0, 3, 6]
    assert [m.age for m in members] == [0, 0, 0]
    for member, other in zip(members, plain, strict=True):
        assert equal(weights(member.model), weights(other.model))


def test_model_pool__staggered_members_have_shorter_first_lives_only() -> None:
    pool = a_pool(size=2, max_age=4)
    members = pool.members(staggered=True)
    found = []
    for _ in range(9):
        pool.advance(members, 1, *pairs())
        found.append(members[1].age)
    assert found == [1, 2, 0, 1, 2, 3, 4, 0, 1]
