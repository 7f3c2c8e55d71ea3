"""Draws: ranges, sharing, and nothing but the generator."""

import torch

from datastill.augment._sampling import Draws, per_image
from datastill.ground.rng import fork


def draws(count: int = 1000, *, siamese: bool = False, dtype: torch.dtype = torch.float32) -> Draws:
    return Draws(fork(0, "draws"), torch.zeros(count, 1, 1, 1, dtype=dtype), siamese)


def test_draws__uniform_fills_its_range() -> None:
    numbers = draws().uniform(-2, 3)
    assert -2 <= numbers.min() < -1.9 and 2.9 < numbers.max() < 3


def test_draws__integers_leave_out_the_upper_end() -> None:
    assert set(draws().integers(-1, 3).tolist()) == {-1, 0, 1, 2}


def test_draws__chance_has_its_probability() -> None:
    assert 0.25 < float(draws().chance(0.3).float().mean()) < 0.35
    assert draws().chance(1.0).all() and not draws().chance(0.0).any()


def test_draws__siamese_gives_one_number_to_all() -> None:
    for numbers in (draws(5, siamese=True).uniform(0, 1), draws(5, siamese=True).integers(0, 99)):
        assert numbers.shape == (5,) and len(numbers.unique()) == 1


def test_draws__siamese_numbers_ignore_the_count() -> None:
    few, many = draws(2, siamese=True), draws(50, siamese=True)
    assert few.uniform(0, 1)[0] == many.uniform(0, 1)[0]


def test_draws__stream_ignores_the_type() -> None:
    single, double = draws().uniform(0, 1), draws(dtype=torch.float64).uniform(0, 1)
    assert double.dtype == torch.float64 and torch.equal(single, double.float())


def test_per_image__lines_up_with_images() -> None:
    images = torch.ones(2, 3, 4, 5)
    assert (images * per_image(torch.tensor([2.0, 3.0])))[1].eq(3).all()
