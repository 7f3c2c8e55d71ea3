"""SimCLR's NT-Xent against its formula in loops, and its invariances."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datastill.core.errors import ConfigError
from datastill.objectives.simclr import SimCLR


def two_views(batch: int = 6, width: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(batch, width, dtype=torch.float64, generator=generator)
    return z, z + 0.5 * torch.randn(batch, width, dtype=torch.float64, generator=generator)


def loss_in_loops(a: np.ndarray, b: np.ndarray, temperature: float) -> float:
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
    expected = loss_in_loops(z_a.numpy(), z_b.numpy(), temperature)
    actual = SimCLR(temperature=temperature).compare(z_a, z_b)
    assert float(actual) == pytest.approx(expected, rel=1e-9)


def test_simclr__ignores_length_of_every_row() -> None:
    z_a, z_b = two_views()
    lengths = torch.tensor([[1.0], [2], [0.01], [30], [5], [0.3]]).double()
    torch.testing.assert_close(SimCLR().compare(z_a * lengths, z_b), SimCLR().compare(z_a, z_b))


def test_simclr__collapse_costs_the_logarithm_of_all_other_views() -> None:
    z = torch.ones(8, 4, dtype=torch.float64)
    assert float(SimCLR().compare(z, z)) == pytest.approx(math.log(2 * 8 - 1))


def test_simclr__projector_is_the_papers() -> None:
    layers = list(SimCLR(projector=(5, 6)).head(4))
    assert [type(layer) for layer in layers] == [nn.Linear, nn.ReLU, nn.Linear]
    assert all(layer.bias is not None for layer in layers if isinstance(layer, nn.Linear))


def test_simclr__refuses_a_temperature_of_zero() -> None:
    with pytest.raises(ConfigError, match="temperature"):
        SimCLR(temperature=0.0)
