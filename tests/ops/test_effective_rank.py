"""Effective rank and normalized_std: against their formulas, and at the extremes."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from datastill.core.errors import DataError
from datastill.ops.effective_rank import effective_rank, normalized_std


def rows(count: int = 50, width: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, width, generator=generator) * torch.tensor([1.0, 2.0, 0.1, 5.0]) + 3


def test_effective_rank__equals_entropy_of_the_spectrum() -> None:
    z = rows().double().numpy()
    covariance = (z - z.mean(0)).T @ (z - z.mean(0))
    singular = np.sqrt(np.linalg.eigvalsh(covariance))
    shares = singular / singular.sum()
    expected = math.exp(-sum(p * math.log(p) for p in shares))
    assert effective_rank(rows()) == pytest.approx(expected, rel=1e-9)


def test_effective_rank__of_a_line_is_one() -> None:
    z = torch.linspace(-1, 1, 9)[:, None] * torch.tensor([1.0, 2.0, 3.0]) + 5
    assert effective_rank(z) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_effective_rank__of_equal_rows_is_zero(value: float) -> None:
    assert effective_rank(torch.full((7, 3), value)) == 0


def test_normalized_std__of_all_directions_is_one() -> None:
    z = torch.randn(5000, 8, generator=torch.Generator().manual_seed(0))
    assert normalized_std(z) == pytest.approx(1, abs=0.02)


def test_normalized_std__of_one_direction_is_zero() -> None:
    z = torch.linspace(1, 2, 9)[:, None] * torch.tensor([1.0, 2.0, 3.0])
    assert normalized_std(z) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("measure", [effective_rank, normalized_std])
@pytest.mark.parametrize("shape", [(1, 3), (4,)])
def test_effective_rank__refuses_less_than_two_rows(measure: object, shape: tuple[int]) -> None:
    with pytest.raises(DataError, match=r"N > 1"):
        measure(torch.zeros(shape))  # type: ignore[operator]
