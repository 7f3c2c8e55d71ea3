"""Shuffled batches."""

import pytest
import torch

from datastill.batches import Batches
from datastill.core.rng import fork


@pytest.fixture
def batches() -> Batches:
    return Batches.over(10, fork(0, "batches"))


def test_batches__an_epoch_has_every_item_once(batches: Batches) -> None:
    drawn = torch.cat([batches.draw(4) for _ in range(3)])
    assert sorted(drawn.tolist()) == list(range(10))


def test_batches__the_end_of_an_epoch_cuts_a_batch_short(batches: Batches) -> None:
    assert [len(batches.draw(4)) for _ in range(6)] == [4, 4, 2, 4, 4, 2]


def test_batches__follow_the_generator() -> None:
    one, same, other = (Batches.over(10, fork(seed, "batches")) for seed in (0, 0, 1))
    draws = [torch.cat([b.draw(3) for _ in range(9)]) for b in (one, same, other)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
