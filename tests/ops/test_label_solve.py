"""Label solve against NumPy's least squares, and what it leaves."""

import numpy as np
import pytest
import torch
from torch import Tensor

from datastill.core.errors import NumericalWarning
from datastill.core.rng import fork
from datastill.ops.label_solve import solve_labels

M, N, CLASSES = 6, 40, 3


def system(*, shared: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """(k_mm with ridge, k_nm, y): of random features; the first `shared` rows of both are equal."""
    generator = fork(0, "label-solve")
    f_syn, f_source = (torch.randn(n, 12, dtype=torch.float64, generator=generator) for n in (M, N))
    f_source[:shared] = f_syn[:shared]
    y = torch.randn(N, CLASSES, dtype=torch.float64, generator=generator)
    k_mm = f_syn @ f_syn.T + 0.01 * torch.eye(M, dtype=torch.float64)
    return k_mm, f_source @ f_syn.T, y


@pytest.mark.parametrize("shared", [0, M])
def test_solve_labels__equals_least_squares(shared: int) -> None:
    k_mm, k_nm, y = system(shared=shared)
    design = (k_nm @ torch.linalg.inv(k_mm)).numpy()
    expected = np.linalg.lstsq(design, y.numpy(), rcond=None)[0]
    labels, left, _ = solve_labels(k_mm, [(k_nm, y)])
    np.testing.assert_allclose(labels.numpy(), expected, rtol=1e-9, atol=1e-9)
    assert float(left) == pytest.approx(((design @ expected - y.numpy()) ** 2).mean())


@pytest.mark.parametrize("size", [1, 7, N])
def test_solve_labels__does_not_depend_on_the_blocks(size: int) -> None:
    k_mm, k_nm, y = system()
    all_at_once, left, _ = solve_labels(k_mm, [(k_nm, y)])
    blocks = zip(k_nm.split(size), y.split(size), strict=True)
    labels, remains, _ = solve_labels(k_mm, blocks)
    torch.testing.assert_close(labels, all_at_once)
    torch.testing.assert_close(remains, left)


def test_solve_labels__fewer_source_images_than_labels_is_said() -> None:
    k_mm, k_nm, y = system()
    with pytest.warns(NumericalWarning, match="6x6 kernel matrix is not positive definite"):
        solve_labels(k_mm, [(k_nm[: M - 1], y[: M - 1])])
