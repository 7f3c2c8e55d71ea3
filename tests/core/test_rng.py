"""Named random streams."""

import torch

from datastill.core.rng import derive, fork, seeded


def draws(*path: str | int, seed: int = 0) -> torch.Tensor:
    return torch.randn(4, generator=fork(seed, *path))


def test_derive__stays_the_same_for_ever() -> None:
    assert derive(0, "batches") == 2312056721596985416  # by sha256sum


def test_fork__streams_of_other_names_seeds_and_paths_differ() -> None:
    streams = [
        draws("batches"),
        draws("views"),
        draws("batches", seed=1),
        draws("batches", 1),
        draws("batches", 2),
    ]
    pairs = [(a, b) for k, a in enumerate(streams) for b in streams[:k]]
    assert not any(torch.equal(a, b) for a, b in pairs)


def test_fork__streams_are_not_correlated() -> None:
    a, b = (torch.randn(4000, generator=fork(0, name)) for name in ("a", "b"))
    assert (a * b).mean().abs() < 0.06  # four standard errors


def test_seeded__restores_the_global_state_after_an_error() -> None:
    before = torch.get_rng_state()
    try:
        with seeded(0, "pool"):
            torch.rand(5)
            raise ValueError
    except ValueError:
        pass
    assert torch.equal(torch.get_rng_state(), before)


def test_seeded__does_not_depend_on_the_global_state() -> None:
    with seeded(0, "pool", 3):
        one = torch.rand(5)
    torch.rand(1)
    with seeded(0, "pool", 3):
        other = torch.rand(5)
    assert torch.equal(one, other)
