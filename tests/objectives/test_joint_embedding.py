"""Objectives that compare two batches of projections: formulas in loops, gradients, refusals."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datastill.core.errors import ConfigError, DataError
from datastill.objectives.barlow_twins import BarlowTwins
from datastill.objectives.byol import BYOL, distance
from datastill.objectives.objective import JointEmbedding, Objective
from datastill.objectives.simclr import SimCLR
from datastill.objectives.supervised import Supervised
from datastill.objectives.vicreg import VICReg

Compare = Callable[[Tensor, Tensor], Tensor]
every_comparison = pytest.mark.parametrize(
    "compare",
    [BarlowTwins(redundancy=0.3).compare, SimCLR().compare, VICReg().compare, distance],
    ids=["barlow-twins", "simclr", "vicreg", "byol"],
)


def two_views(batch: int = 6, width: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(batch, width, dtype=torch.float64, generator=generator)
    return z, z + 0.5 * torch.randn(batch, width, dtype=torch.float64, generator=generator)


@every_comparison
def test_compare__gradient_of_both_views(compare: Compare) -> None:
    z_a, z_b = (z.requires_grad_() for z in two_views())
    assert torch.autograd.gradcheck(compare, (z_a, z_b))


@every_comparison
def test_compare__computes_half_precision_input_in_float32(compare: Compare) -> None:
    z_a, z_b = (z.bfloat16() for z in two_views())
    loss = compare(z_a, z_b)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, compare(z_a.float(), z_b.float()))


@every_comparison
@pytest.mark.parametrize("shape", [(6, 3), (5, 4), (6, 4, 1)])
def test_compare__refuses_views_of_other_shapes(compare: Compare, shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"both \(B, P\)"):
        compare(torch.zeros(6, 4), torch.zeros(shape))


def barlow_twins_in_loops(a: np.ndarray, b: np.ndarray, redundancy: float) -> float:
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
    expected = barlow_twins_in_loops(z_a.numpy(), z_b.numpy(), redundancy=0.3)
    assert float(BarlowTwins(redundancy=0.3).compare(z_a, z_b)) == pytest.approx(expected, rel=1e-9)


def test_barlow_twins__scale_multiplies_the_loss() -> None:
    views = two_views()
    ratio = BarlowTwins(scale=0.25).compare(*views) / BarlowTwins().compare(*views)
    assert float(ratio) == pytest.approx(0.25)


def test_barlow_twins__collapsed_column_stays_finite() -> None:
    z_a, z_b = two_views()
    z_a = z_a.clone().index_fill_(1, torch.tensor([1]), 2.0).requires_grad_()
    loss = BarlowTwins().compare(z_a, z_b)
    loss.backward()
    assert loss.isfinite() and z_a.grad is not None and z_a.grad.isfinite().all()


def simclr_in_loops(a: np.ndarray, b: np.ndarray, temperature: float) -> float:
    """Equation 1 and algorithm 1 of the paper: views of image k are numbers 2k and 2k + 1."""
    z = [row for pair in zip(a, b, strict=True) for row in pair]

    def pair_loss(i: int, j: int) -> float:
        def similarity(k: int) -> float:
            cosine = float(z[i] @ z[k] / np.linalg.norm(z[i]) / np.linalg.norm(z[k]))
            return math.exp(cosine / temperature)

        others = sum(similarity(k) for k in range(len(z)) if k != i)
        return -math.log(similarity(j) / others)

    pairs = [(2 * k, 2 * k + 1) for k in range(len(a))]
    return sum(pair_loss(i, j) + pair_loss(j, i) for i, j in pairs) / len(z)


@pytest.mark.parametrize(("batch", "width"), [(6, 4), (2, 5), (7, 1)])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_simclr__equals_formula_in_loops(batch: int, width: int, temperature: float) -> None:
    z_a, z_b = two_views(batch, width)
    expected = simclr_in_loops(z_a.numpy(), z_b.numpy(), temperature)
    actual = SimCLR(temperature=temperature).compare(z_a, z_b)
    assert float(actual) == pytest.approx(expected, rel=1e-9)


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


@pytest.mark.parametrize("objective", [BarlowTwins, VICReg])
def test_head__has_batch_norms_and_no_biases(objective: type[JointEmbedding]) -> None:
    head = objective(projector=(5, 6, 7)).head(4)  # type: ignore[call-arg]
    block = [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    assert [type(layer) for layer in head.children()] == [*block, *block, nn.Linear]
    assert all(layer.bias is None for layer in head.children() if isinstance(layer, nn.Linear))


def test_head__of_simclr_has_biases_and_no_batch_norm() -> None:
    layers = list(SimCLR(projector=(5, 6)).head(4))
    assert [type(layer) for layer in layers] == [nn.Linear, nn.ReLU, nn.Linear]
    assert all(layer.bias is not None for layer in layers if isinstance(layer, nn.Linear))


def test_head__without_layers_is_the_identity() -> None:
    z = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(BarlowTwins(projector=()).head(4)(z), z)


@pytest.mark.parametrize(
    ("objective", "option"),
    [
        (BarlowTwins, {"projector": (5, 0)}),
        (BYOL, {"tau": 1.0}),
        (BYOL, {"tau": -0.1}),
        (SimCLR, {"temperature": 0.0}),
        (Supervised, {"label_smoothing": 1.0}),
        (Supervised, {"label_smoothing": math.nan}),
        (VICReg, {"variance": -1.0}),
    ],
)
def test_objectives__refuse_options_out_of_range(
    objective: type[Objective], option: dict[str, object]
) -> None:
    with pytest.raises(ConfigError, match=next(iter(option))):
        objective(**option)
