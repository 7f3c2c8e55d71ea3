"""Ranks: messages between two real processes, and one process alone."""

import pytest
import torch
from torch import Tensor

from datastill.core.errors import ConfigError
from datastill.core.ranks import Ranks, init_ranks

RankOutputs = list[dict[str, Tensor]]  # of the fixture in conftest.py


def test_ranks__gathers_the_rows_of_all_ranks_in_order(two_ranks: RankOutputs) -> None:
    for outputs in two_ranks:
        assert outputs["world/rows"].flatten().tolist() == [1, 1, 2, 2]


def test_ranks__gather_sums_gradients_over_ranks(two_ranks: RankOutputs) -> None:
    """Each of two ranks has the loss Σ x³: its rows get twice 3x², whose mean over ranks is 3x²."""
    for outputs in two_ranks:
        assert torch.equal(outputs["world/gradient"], 2 * 3 * outputs["world/own"].square())


def test_ranks__means_are_weighted_by_rows_and_leave_the_tensor_alone(
    two_ranks: RankOutputs,
) -> None:
    """Of 1 and 2: 3/2; where the second has two rows to the first one's one, 5/3."""
    for rank, outputs in enumerate(two_ranks):
        assert outputs["world/mean"].flatten().tolist() == [1.5, 1.5]
        assert outputs["world/weighted"].flatten().tolist() == [5 / 3, 5 / 3]
        assert outputs["world/own"].flatten().tolist() == [rank + 1, rank + 1]


def test_init_ranks__leaves_no_thread_behind(two_ranks: RankOutputs) -> None:
    """One that frees a tensor while Python shuts down would abort the process."""
    assert [int(outputs["world/threads"]) for outputs in two_ranks] == [0, 0]


def test_ranks__of_one_gives_back_what_it_got() -> None:
    x, single = torch.ones(3), Ranks()
    assert single.gather(x) is x and single.shard(x) is x
    assert single.average([x])[0] is x and single.all_reduce_max([3, 1]) == [3, 1]
    single.check_equal(3, "nothing")


@pytest.mark.parametrize("count", [*range(1, 9), 64])
def test_ranks__shares_are_all_rows_in_order(count: int) -> None:
    rows = torch.arange(count)
    shares = [Ranks(rank, 4).shard(rows) for rank in range(4)]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    joined = torch.cat(shares) if count >= 4 else shares[0]
    assert torch.equal(joined, rows) and all(len(share) for share in shares)


@pytest.mark.parametrize(("rank", "size"), [(1, 1), (-1, 2), (0, 0)])
def test_ranks__refuses_a_rank_that_cannot_be(rank: int, size: int) -> None:
    with pytest.raises(ConfigError, match=f"rank {rank} of {size} ranks"):
        Ranks(rank, size)


@pytest.mark.parametrize("environment", [{}, {"RANK": "0", "WORLD_SIZE": "1"}])
def test_init_ranks__a_single_process_needs_no_group(environment: dict[str, str]) -> None:
    with init_ranks(environment=environment) as ranks:
        assert ranks == Ranks(0, 1) and not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "first", "WORLD_SIZE": "2"}, r"RANK=first, .* must be numbers; .* torchrun"),
        ({"RANK": "0", "WORLD_SIZE": "4"}, r"WORLD_SIZE=4, .* with torchrun, or unset WORLD_SIZE"),
    ],
)
def test_init_ranks__environment_that_torchrun_did_not_set_is_refused(
    environment: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message), init_ranks("cpu", environment):
        pass
