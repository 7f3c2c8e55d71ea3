"""VICReg against its algorithm in loops, and its invariances."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datastill.core.errors import ConfigError
from datastill.objectives.vicreg import VICReg


def two_views(batch: int = 6, width: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(batch, width, dtype=torch.float64, generator=generator)
    return z, z + 0.5 * torch.randn(batch, width, dtype=torch.float64, generator=generator)


def variance_in_loops(z: np.ndarray) -> float:
    deviations = [math.sqrt(column.var(ddof=1) + 1e-4) for column in z.T]
    return sum(max(0.0, 1 - s) for s in deviations) / len(deviations)


def covariance_in_loops(z: np.ndarray) -> float:
    table = np.cov(z.T).reshape(z.shape[1], z.shape[1])
    pairs = [(i, j) for i in range(len(table)) for j in range(len(table)) if i != j]
    return float(sum(table[i, j] ** 2 for i, j in pairs) / len(table))


@pytest.mark.parametrize(("batch", "width"), [(6, 4), (2, 5), (7, 1)])
def test_vicreg__equals_algorithm_in_loops(batch: int, width: int) -> None:
    a, b = (z.numpy() for z in two_views(batch, width))
    expected = 3 * sum(((a[n] - b[n]) ** 2).sum() for n in range(batch)) / batch / width
    expected += 5 * (variance_in_loops(a) + variance_in_loops(b))
    expected += 7 * (covariance_in_loops(a) + covariance_in_loops(b))
    actual = VICReg(invariance=3, variance=5, covariance=7).compare(*two_views(batch, width))
    assert float(actual) == pytest.approx(expected, rel=1e-12)


def test_vicreg__weights_are_the_papers() -> None:
    assert (VICReg().invariance, VICReg().variance, VICReg().covariance) == (25, 25, 1)


def test_vicreg__ignores_order_of_columns() -> None:
    z_a, z_b = two_views()
    order = torch.tensor([2, 0, 3, 1])
    moved = VICReg().compare(z_a[:, order], z_b[:, order])
    torch.testing.assert_close(moved, VICReg().compare(z_a, z_b))


def test_vicreg__ignores_a_shift_of_both_views() -> None:
    z_a, z_b = two_views()
    torch.testing.assert_close(VICReg().compare(z_a + 3, z_b + 3), VICReg().compare(z_a, z_b))


def test_vicreg__is_zero_for_equal_wide_decorrelated_columns() -> None:
    z = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]).double() * 2
    assert float(VICReg().compare(z, z)) == pytest.approx(0, abs=1e-12)


def test_vicreg__collapse_costs_the_whole_variance_term() -> None:
    z = torch.full((8, 4), 3.0, dtype=torch.float64, requires_grad=True)
    loss = VICReg().compare(z, z)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(
        2 * 25 * (1 - 0.01)
    )  # √1e-4 is left of the deviation
    assert z.grad is not None and z.grad.isfinite().all()


def test_vicreg__expander_is_the_authors() -> None:
    layer_types = [type(layer) for layer in VICReg(projector=(5, 6, 7)).head(4)]
    block = [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    assert layer_types == [*block, *block, nn.Linear]


@pytest.mark.parametrize("wrong", [{"variance": -1.0}, {"projector": (5, 0)}], ids=str)
def test_vicreg__refuses_strange_options(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        VICReg(**wrong)  # type: ignore[arg-type]
