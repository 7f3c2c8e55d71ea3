"""Barlow Twins against its formula in loops, and its invariances."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datastill.core.errors import ConfigError
from datastill.objectives.barlow_twins import BarlowTwins


def two_views(batch: int = 6, width: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(batch, width, dtype=torch.float64, generator=generator)
    return z, z + 0.5 * torch.randn(batch, width, dtype=torch.float64, generator=generator)


def loss_in_loops(a: np.ndarray, b: np.ndarray, redundancy: float) -> float:
    """Equations 1 and 2 of the paper, entry by entry, on centred columns of unit variance."""
    batch, width = a.shape
    a, b = ((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5) for z in (a, b))
    total = 0.0
    for i in range(width):
        for j in range(width):
            correlation = sum(a[n, i] * b[n, j] for n in range(batch)) / batch
            total += (1 - correlation) ** 2 if i == j else redundancy * correlation**2
    return total


@pytest.mark.parametrize(("batch", "width"), [(6, 4), (2, 5), (7, 1)])
def test_barlow_twins__equals_formula_in_loops(batch: int, width: int) -> None:
    z_a, z_b = two_views(batch, width)
    expected = loss_in_loops(z_a.numpy(), z_b.numpy(), redundancy=0.3)
    assert float(BarlowTwins(redundancy=0.3).compare(z_a, z_b)) == pytest.approx(expected, rel=1e-9)


def test_barlow_twins__scale_multiplies_the_loss() -> None:
    views = two_views()
    ratio = BarlowTwins(scale=0.25).compare(*views) / BarlowTwins().compare(*views)
    assert float(ratio) == pytest.approx(0.25)


def test_barlow_twins__ignores_affine_rescaling_of_a_dimension() -> None:
    z_a, z_b = two_views()
    factor, offset = torch.tensor([100.0, 1, 50, 1]).double(), torch.tensor([0.0, -3, 7, 0])
    plain, moved = (
        BarlowTwins().compare(z_a, z_b),
        BarlowTwins().compare(z_a * factor + offset, z_b),
    )
    torch.testing.assert_close(moved, plain, rtol=1e-3, atol=0)  # eps of the variance is left


def test_barlow_twins__is_zero_for_identical_decorrelated_columns() -> None:
    z = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]).double() * 10
    assert float(BarlowTwins().compare(z, z)) == pytest.approx(0, abs=1e-9)


def test_barlow_twins__collapsed_column_stays_finite() -> None:
    z_a, z_b = two_views()
    z_a = z_a.clone().index_fill_(1, torch.tensor([1]), 2.0).requires_grad_()
    loss = BarlowTwins().compare(z_a, z_b)
    loss.backward()
    assert loss.isfinite() and z_a.grad is not None and z_a.grad.isfinite().all()


def test_barlow_twins__projector_is_the_authors() -> None:
    layer_types = [type(layer) for layer in BarlowTwins(projector=(5, 6, 7)).head(4)]
    block = [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    assert layer_types == [*block, *block, nn.Linear]


def test_barlow_twins__projector_has_no_biases_in_linear_layers() -> None:
    head = BarlowTwins(projector=(5, 6)).head(4)
    shapes = [tuple(p.shape) for p in head.parameters()]
    assert shapes == [(5, 4), (5,), (5,), (6, 5)]


def test_barlow_twins__empty_projector_is_the_identity() -> None:
    z = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(BarlowTwins(projector=()).head(4)(z), z)


def test_barlow_twins__refuses_empty_layers() -> None:
    with pytest.raises(ConfigError, match="expected at least 1"):
        BarlowTwins(projector=(5, 0))
