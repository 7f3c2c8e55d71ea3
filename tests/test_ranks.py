"""Two real ranks against one process: distillation and target training on the joined batch."""

import pytest
import torch
from joined_runs import METHODS, OBJECTIVES, distilled, trained
from reliability import Figures

from datastill.ground.world import World

Ranks = list[dict[str, torch.Tensor]]  # of the fixture in conftest.py
every_method = pytest.mark.parametrize("name", METHODS)
every_objective = pytest.mark.parametrize("name", OBJECTIVES)


def of(phase: str, rank: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What one rank found in one phase, without what it sent."""
    start = f"{phase}/"
    return {k.removeprefix(start): v for k, v in rank.items() if k.startswith(start)}


def largest_difference(alone: dict[str, torch.Tensor], rank: dict[str, torch.Tensor]) -> float:
    """Of all numbers but those that say what was sent, relative to the largest of a tensor."""
    assert alone.keys() == rank.keys()
    pairs = [(alone[k].double(), rank[k].double()) for k in alone if k != "sent"]
    return max(float((a - b).abs().max() / a.abs().max().clamp_min(1e-3)) for a, b in pairs)


def assert_bit_equal(phase: str, two_ranks: Ranks) -> None:
    one, other = (of(phase, rank) for rank in two_ranks)
    assert one and one.keys() == other.keys()
    assert not [k for k in one if not torch.equal(one[k], other[k])]


@every_method
def test_distill__two_ranks_equal_one_process_on_the_joined_batch(
    name: str, two_ranks: Ranks, figures: Figures
) -> None:
    alone = distilled(name, World())
    assert alone["births"].max() > 1  # an inner model was replaced
    found = max(largest_difference(alone, of(f"distilled {name}", rank)) for rank in two_ranks)
    figures.add(f"two ranks, one process: {name}", f"differ by {found:.1e} at most, relatively")
    assert 0 < found < 1e-9  # not bit for bit: sums of shares are not the sum


@every_method
def test_distill__two_ranks_stay_bit_equal(name: str, two_ranks: Ranks) -> None:
    assert_bit_equal(f"distilled {name}", two_ranks)


def test_distill__sends_the_learned_gradients_and_the_loss_once(two_ranks: Ranks) -> None:
    """8 bytes for each of 8 images of 64 pixels with targets of 5 numbers, loss, and row count."""
    assert set(two_ranks[0]["distilled krr-st/sent"].tolist()) == {8 * (8 * (64 + 5) + 2)}


@every_objective
def test_train_target__two_ranks_equal_one_process_on_the_joined_batch(
    name: str, two_ranks: Ranks, figures: Figures
) -> None:
    alone = trained(name, World())
    assert "body.1.running_var" in alone  # it has batch norms
    found = max(largest_difference(alone, of(f"target {name}", rank)) for rank in two_ranks)
    figures.add(f"two ranks, one process: {name}", f"differ by {found:.1e} at most, relatively")
    assert 0 < found < 1e-9


@every_objective
def test_train_target__two_ranks_stay_bit_equal(name: str, two_ranks: Ranks) -> None:
    assert_bit_equal(f"target {name}", two_ranks)
