"""Two real ranks against one process: distillation and target training on the joined batch."""

import json
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from factories import NETWORK, toy_images, toy_problem
from joined_runs import METHODS, OBJECTIVES, distilled, trained
from reliability import Figures
from torch import nn

from datastill.core.errors import ConfigError
from datastill.core.lookup import find
from datastill.core.machine import Machine
from datastill.core.ranks import Ranks
from datastill.core.rng import fork
from datastill.distilled_set import DistilledSet
from datastill.ops.sync_batch_norm import convert_sync_batch_norm
from datastill.target_model import TargetModel
from datastill.train_target import TargetTraining, train_target

RankOutputs = list[dict[str, torch.Tensor]]  # of the fixture in conftest.py
PHASES = {f"distilled {name}": partial(distilled, name, Ranks()) for name in METHODS}
PHASES |= {f"target {name}": partial(trained, name, Ranks()) for name in OBJECTIVES}
every_phase = pytest.mark.parametrize("phase", PHASES)


def of(phase: str, rank: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the results of one rank in one phase."""
    start = f"{phase}/"
    return {k.removeprefix(start): v for k, v in rank.items() if k.startswith(start)}


def largest_difference(single: dict[str, torch.Tensor], rank: dict[str, torch.Tensor]) -> float:
    """Return it relative to the largest value of each tensor; sent bytes are left out."""
    assert single.keys() == rank.keys()
    pairs = [(single[k].double(), rank[k].double()) for k in single if k != "sent"]
    return max(float((a - b).abs().max() / a.abs().max().clamp_min(1e-3)) for a, b in pairs)


@every_phase
def test_ranks__two_equal_one_process_on_the_joined_batch(
    phase: str, two_ranks: RankOutputs, figures: Figures
) -> None:
    single = PHASES[phase]()
    if phase.startswith("distilled"):
        assert single["births"].max() > 1  # an inner model was replaced
    else:
        assert "body.1.running_var" in single  # it has batch norms
    difference = max(largest_difference(single, of(phase, rank)) for rank in two_ranks)
    figures.add(
        f"two ranks, one process: {phase}", f"differ by {difference:.1e} at most, relatively"
    )
    assert 0 < difference < 1e-9  # not bit for bit: sums of shares are not the sum


@every_phase
def test_ranks__stay_bit_equal(phase: str, two_ranks: RankOutputs) -> None:
    one, other = (of(phase, rank) for rank in two_ranks)
    assert one and one.keys() == other.keys()
    assert not [k for k in one if not torch.equal(one[k], other[k])]


def test_distill__sends_the_learned_gradients_and_the_loss_once(two_ranks: RankOutputs) -> None:
    """8 bytes for each of 8 images of 64 pixels with targets of 5 numbers, loss, and row count."""
    assert set(two_ranks[0]["distilled krr-st/sent"].tolist()) == {8 * (8 * (64 + 5) + 2)}


@pytest.fixture
def messages(two_ranks_folder: Path) -> list[dict[str, str]]:
    """Return how the work of each rank ended (joined_loops.py)."""
    files = [two_ranks_folder / f"rank-{rank}.json" for rank in range(2)]
    return [json.loads(file.read_text()) for file in files]


def test_ranks__only_the_first_writes(two_ranks_folder: Path) -> None:
    """With a checkpoint after every step, each rank in a folder of its own."""
    first, second = two_ranks_folder / "alone-0", two_ranks_folder / "alone-1"
    assert (first / "distilled/distilled.safetensors").exists()
    assert (first / "distilled/initial.safetensors").exists()
    assert (first / "trained/target.safetensors").exists()
    assert len((first / "distilled/metrics.jsonl").read_text().splitlines()) == 3
    assert not second.exists()


def test_ranks__all_return_what_the_first_has_saved(
    two_ranks_folder: Path, messages: list[dict[str, str]]
) -> None:
    distilled = DistilledSet.load(two_ranks_folder / "alone-0/distilled").fingerprint
    trained = TargetModel.load(two_ranks_folder / "alone-0/trained").fingerprint
    assert [rank["distilled"] for rank in messages] == [distilled] * 2
    assert [rank["trained"] for rank in messages] == [trained] * 2


def test_ranks__signal_to_one_stops_all_after_the_same_step(messages: list[dict[str, str]]) -> None:
    """It came to the second rank in the third step; the first one saves, and both go on."""
    assert [rank["stopped"] for rank in messages] == ["SystemExit 143 after 3"] * 2
    assert [rank["resumed"] for rank in messages] == ["done after 6"] * 2


def test_ranks__different_checkpoints_are_refused_by_all(messages: list[dict[str, str]]) -> None:
    for rank in messages:
        assert rank["differing"].startswith("ConfigError ranks differ in the step")
        assert "(0 to 2)" in rank["differing"]


@pytest.mark.parametrize("name", ["random-subset", "k-means", "dm", "mtt", "mkdt", "label-solve"])
def test_method__that_shares_no_work_refuses_ranks(name: str) -> None:
    problem = replace(toy_problem(), machine=Machine(ranks=Ranks(0, 2)))
    with pytest.raises(ConfigError, match=f"{name} does not share .* 2 were started"):
        find("datastill.methods", name)().check(problem)


def test_train_target__batch_without_equal_shares_is_refused() -> None:
    training = TargetTraining(NETWORK, batch=9)
    with pytest.raises(ConfigError, match="batch of 9 images has no equal shares for 2 ranks"):
        train_target(toy_images(), training, machine=Machine(ranks=Ranks(1, 2)))


def test_sync_batch_norm__unknown_kind_is_refused() -> None:
    class Special(nn.BatchNorm2d):
        pass

    with pytest.raises(ConfigError, match=r"Special cannot be shared .* without torchrun"):
        convert_sync_batch_norm(nn.Sequential(nn.Sequential(Special(3))), Ranks(0, 2))


def test_sync_batch_norm__leaves_names_and_evaluation_alone() -> None:
    plain = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.Flatten(), nn.BatchNorm1d(12))
    joined = deepcopy(plain)
    convert_sync_batch_norm(joined, Ranks(0, 2))
    assert joined.state_dict().keys() == plain.state_dict().keys()
    x = torch.rand(2, 1, 2, 2, generator=fork(0, "pixels"))
    assert torch.equal(joined.eval()(x), plain.eval()(x))
