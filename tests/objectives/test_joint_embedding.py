"""What the objectives that compare two batches of projections have in common."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from datastill.core.errors import DataError
from datastill.objectives.barlow_twins import BarlowTwins
from datastill.objectives.byol import distance
from datastill.objectives.simclr import SimCLR
from datastill.objectives.vicreg import VICReg

Compare = Callable[[Tensor, Tensor], Tensor]
every_comparison = pytest.mark.parametrize(
    "compare",
    [BarlowTwins(redundancy=0.3).compare, SimCLR().compare, VICReg().compare, distance],
    ids=["barlow-twins", "simclr", "vicreg", "byol"],
)


def two_views() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(6, 4, dtype=torch.float64, generator=generator)
    return z, z + 0.5 * torch.randn(6, 4, dtype=torch.float64, generator=generator)


@every_comparison
def test_compare__gradient_of_both_views(compare: Compare) -> None:
    z_a, z_b = (z.requires_grad_() for z in two_views())
    assert torch.autograd.gradcheck(compare, (z_a, z_b))


@every_comparison
def test_compare__prefers_views_that_agree(compare: Compare) -> None:
    z_a, z_b = two_views()
    assert compare(z_a, z_a) < compare(z_a, z_b.roll(1, 0))


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


@every_comparison
def test_compare__batch_of_one_says_what_to_do(compare: Compare) -> None:
    with pytest.raises(DataError, match="batch of 1; use a batch of two or more"):
        compare(torch.zeros(1, 4), torch.zeros(1, 4))
