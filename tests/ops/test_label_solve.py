"""Label solve against NumPy's least squares, and what it leaves."""

import numpy as np
import pytest
import torch
from torch import Tensor

from datastill.core.errors import NotFiniteError, NumericalWarning, SingularKernelError
from datastill.core.rng import fork
from datastill.ops.label_solve import LeastSquares, rescale, solve_labels

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


def sums(*, blocks: int = 3, mapped: bool = False) -> tuple[LeastSquares, Tensor, Tensor]:
    """Sums over rows a and g; `mapped`: over rows of 4 features that `weights` maps to a."""
    generator = fork(0, "least-squares")
    features = torch.randn(N, 4, dtype=torch.float64, generator=generator)
    weights = torch.randn(4, M, dtype=torch.float64, generator=generator)
    g = torch.randn(N, CLASSES, dtype=torch.float64, generator=generator) + 7
    a = features @ weights
    added, found = features if mapped else a, LeastSquares.zeros(4 if mapped else M, CLASSES)
    for rows, targets in zip(added.chunk(blocks), g.chunk(blocks), strict=True):
        found.add(rows, targets)
    if not mapped:
        return found, a, g
    total = LeastSquares.zeros(M, CLASSES)
    total.add_mapped(found, weights)
    return total, a, g


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("share", [1e-3, 1.0])
def test_least_squares__equals_rows_with_the_start_below(mapped: bool, share: float) -> None:
    found, a, g = sums(mapped=mapped)
    start = torch.arange(M * CLASSES, dtype=torch.float64).view(M, CLASSES)
    e = share * float(a.square().sum() / M)
    below = np.sqrt(e) * np.eye(M), np.sqrt(e) * start.numpy()
    expected = np.linalg.lstsq(np.vstack([a, below[0]]), np.vstack([g, below[1]]), rcond=None)[0]
    y = found.solve(start, share_of_start=share)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-8, atol=1e-8)
    error = float((a @ y - g).square().mean())
    assert float(found.mean_squared_error(y)) == pytest.approx(error)
    torch.testing.assert_close(found.mean, g.mean(0))
    torch.testing.assert_close(found.deviation, g.std(0, correction=0))


def test_least_squares__forgets_all_rows() -> None:
    found, *_ = sums()
    found.clear()
    fresh = LeastSquares.zeros(M, CLASSES)
    assert all(torch.equal(getattr(found, name), x) for name, x in vars(fresh).items())


def test_least_squares__open_direction_without_a_start_is_said() -> None:
    found, *_ = sums()  # of rank 4, for 6 unknowns
    with pytest.warns(NumericalWarning, match="6x6 kernel matrix is not positive definite"):
        found.solve(torch.zeros(M, CLASSES), share_of_start=0.0)


def test_least_squares__what_cannot_be_solved_is_refused_in_words() -> None:
    nothing = LeastSquares.zeros(M, CLASSES)
    with pytest.raises(
        SingularKernelError, match=r"of 6 targets are singular; raise --method\.eps"
    ):
        nothing.solve(torch.zeros(M, CLASSES), share_of_start=1.0)
    nothing.add(torch.full((1, M), torch.nan), torch.zeros(1, CLASSES))
    with pytest.raises(NotFiniteError):
        nothing.solve(torch.zeros(M, CLASSES), share_of_start=1.0)


def test_rescale__gives_the_deviations_and_keeps_the_mean_in_place() -> None:
    y = torch.tensor([[1.0, 4.0, 3.0], [3.0, 4.0, 9.0]])
    mean, deviation = torch.tensor([2.0, 1.0, 3.0]), torch.tensor([5.0, 2.0, 1.0])
    expected = torch.tensor([[-3.0, 4.0, 3.0], [7.0, 4.0, 5.0]])  # equal values stay
    torch.testing.assert_close(rescale(y, mean, deviation), expected)
