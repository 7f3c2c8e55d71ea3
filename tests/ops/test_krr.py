"""Kernel ridge regression against scikit-learn, its gradients, and its behaviour near breakdown."""

import pytest
import torch
from sklearn.kernel_ridge import KernelRidge
from torch import Tensor

from datastill.core.errors import NotFiniteError, NumericalWarning, SingularKernelError
from datastill.core.rng import fork
from datastill.ops import krr
from datastill.ops.krr import cholesky, gram, krr_map, krr_predict, solve_positive, with_bias

DUAL, PRIMAL = 6, 20  # distilled rows, with 10 features and a bias
sizes = pytest.mark.parametrize("m", [DUAL, PRIMAL], ids=["dual", "primal"])


def predicted(*rows: Tensor, **ridges: float) -> Tensor:
    return krr_predict(*rows, **ridges)[0]


def rows(m: int, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """(f_query, f_syn, y_syn) in float64, features with bias."""
    generator = fork(seed, "krr", m)
    f_query, f_syn = (
        with_bias(torch.randn(count, 10, dtype=torch.float64, generator=generator))
        for count in (7, m)
    )
    return f_query, f_syn, torch.randn(m, 3, dtype=torch.float64, generator=generator)


def scikit_learn(f_query: Tensor, f_syn: Tensor, y_syn: Tensor, ridge: float) -> Tensor:
    model = KernelRidge(alpha=ridge, kernel="linear").fit(f_syn.numpy(), y_syn.numpy())
    return torch.from_numpy(model.predict(f_query.numpy()))


def by_inverse(f_query: Tensor, f_syn: Tensor, y_syn: Tensor, ridge: Tensor | float) -> Tensor:
    """The dual formula as in the paper, with an explicit inverse."""
    k_mm = f_syn @ f_syn.T + ridge * torch.eye(len(f_syn), dtype=f_syn.dtype)
    return f_query @ f_syn.T @ torch.linalg.inv(k_mm) @ y_syn


def close(actual: Tensor, expected: Tensor, *, within: float = 1e-8) -> None:
    torch.testing.assert_close(actual, expected, atol=within, rtol=within)


def test_with_bias__appends_a_column_of_ones() -> None:
    assert torch.equal(with_bias(torch.zeros(2, 1)), torch.tensor([[0.0, 1.0], [0.0, 1.0]]))


@pytest.mark.parametrize(("m", "solved"), [(DUAL, DUAL), (11, 11), (PRIMAL, 11)])
def test_krr_predict__solves_the_smaller_system(
    m: int, solved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []

    def spy(matrix: Tensor) -> Tensor:
        shapes.append(tuple(matrix.shape))
        return cholesky(matrix)

    monkeypatch.setattr(krr, "cholesky", spy)
    predicted(*rows(m), ridge_absolute=1.0)
    assert shapes == [(solved, solved)]


@sizes
@pytest.mark.parametrize(
    ("of_trace", "of_mean", "absolute"),
    [(0, 0, 1e-3), (0, 0, 0.7), (0.01, 0, 0), (0, 0.01, 0), (0.01, 0.02, 0.03)],
)
def test_krr_predict__equals_scikit_learn_and_ridges_add_up(
    m: int, of_trace: float, of_mean: float, absolute: float
) -> None:
    f_query, f_syn, y_syn = rows(m)
    diagonal = (f_syn @ f_syn.T).diagonal()
    ridge = of_trace * float(diagonal.sum()) + of_mean * float(diagonal.mean()) + absolute
    shares = {"ridge_of_trace": of_trace, "ridge_of_mean": of_mean, "ridge_absolute": absolute}
    close(predicted(f_query, f_syn, y_syn, **shares), scikit_learn(f_query, f_syn, y_syn, ridge))


@sizes
def test_krr_predict__gradient_of_features_and_targets(m: int) -> None:
    f_query, f_syn, y_syn = rows(m)

    def predict(f: Tensor, y: Tensor) -> Tensor:
        return predicted(f_query, f, y, ridge_absolute=0.5)

    assert torch.autograd.gradcheck(predict, (f_syn.requires_grad_(), y_syn.requires_grad_()))


@sizes
def test_krr_predict__trace_is_a_constant_for_the_gradient(m: int) -> None:
    f_query, f_syn, y_syn = rows(m)
    f_syn.requires_grad_()
    actual = predicted(f_query, f_syn, y_syn, ridge_of_trace=0.1).square().sum()
    detached = 0.1 * (f_syn.detach() @ f_syn.detach().T).trace()
    by_hand = by_inverse(f_query, f_syn, y_syn, detached).square().sum()
    close(torch.autograd.grad(actual, f_syn)[0], torch.autograd.grad(by_hand, f_syn)[0])


@sizes
def test_krr_map__predicts_as_krr_predict_for_any_targets(m: int) -> None:
    f_query, f_syn, y_syn = rows(m)
    ridges = {"ridge_of_trace": 1e-3, "ridge_of_mean": 0.1}
    weights, condition = krr_map(f_syn, **ridges)
    expected, same_condition = krr_predict(f_query, f_syn, y_syn, **ridges)
    close(f_query @ weights @ y_syn, expected, within=1e-9)
    close(f_query @ weights @ (y_syn + 1), predicted(f_query, f_syn, y_syn + 1, **ridges))
    assert condition == same_condition and weights.shape == (11, m)


def test_solve_positive__gradient_of_matrix_and_right_side() -> None:
    _, factor, right = rows(DUAL)

    def solve(f: Tensor, r: Tensor) -> Tensor:
        return solve_positive(f @ f.T + torch.eye(len(f), dtype=f.dtype), r)[0]

    inputs = (factor.requires_grad_(), right.requires_grad_())
    assert torch.autograd.gradcheck(solve, inputs)


def test_gram__is_the_product_and_has_its_gradient() -> None:
    """Also where what follows is not symmetric."""
    phi = torch.randn(4, 7, generator=fork(0, "phi"), dtype=torch.float64).requires_grad_()
    weights = torch.randn(4, 4, generator=fork(0, "weights"), dtype=torch.float64)
    assert torch.equal(gram(phi), phi @ phi.T)
    actual, expected = (
        torch.autograd.grad((product.square() * weights).sum(), phi)[0]
        for product in (gram(phi), phi @ phi.T)
    )
    torch.testing.assert_close(actual, expected, rtol=1e-13, atol=1e-13)


@sizes
def test_krr_predict__returns_the_type_of_the_targets(m: int) -> None:
    singles = [x.float() for x in rows(m)]
    assert predicted(*singles, ridge_absolute=1.0).dtype == torch.float32


def ill_conditioned() -> tuple[Tensor, Tensor, Tensor]:
    """Float32 rows whose kernel has a condition number of about 1e8."""
    generator = fork(0, "ill-conditioned")
    f_syn = torch.randn(30, 60, dtype=torch.float64, generator=generator)
    left, values, right = torch.linalg.svd(f_syn, full_matrices=False)
    f_syn = (left * torch.logspace(0, -4, len(values), dtype=torch.float64)) @ right
    y_syn = torch.randn(30, 3, dtype=torch.float64, generator=generator)
    f_query = torch.randn(7, 60, dtype=torch.float64, generator=generator)
    return f_query.float(), f_syn.float(), y_syn.float()


def test_krr_predict__keeps_the_digits_of_float32_inputs() -> None:
    """Against the same rows solved in float64; a solve in float32 loses all but two digits."""
    single = ill_conditioned()
    truth = by_inverse(*(x.double() for x in single), 1e-12)
    found = predicted(*single, ridge_absolute=1e-12).double()
    assert float((found - truth).norm() / truth.norm()) < 1e-6


def duplicated(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of which three occur twice, as duplicated images give them."""
    f_query, f_syn, y_syn = rows(DUAL, seed=seed)
    return f_query, torch.cat([f_syn, f_syn[:3]]), torch.cat([y_syn, y_syn[:3]])


@pytest.mark.parametrize("seed", [0, 1, 24, 78])  # 24, 78: LAPACK gives a factor all the same
def test_krr_predict__duplicated_images_without_ridge_are_solved_and_said(seed: int) -> None:
    with pytest.warns(NumericalWarning, match=r"9x9 kernel.* added 1e-\d+ of its mean diagonal"):
        actual = predicted(*duplicated(seed))
    close(actual, by_inverse(*rows(DUAL, seed=seed), 0.0), within=1e-3)


def test_krr_predict__duplicated_images_with_ridge_are_silent() -> None:
    assert predicted(*duplicated(0), ridge_of_trace=1e-6).isfinite().all()


def test_solve_positive__condition_is_that_of_a_diagonal_and_below_that_of_others() -> None:
    diagonal = torch.tensor([4.0, 1.0, 1e-6], dtype=torch.float64)
    close(solve_positive(diagonal.diag(), diagonal.diag())[1], torch.tensor(4e6).double())
    _, f_syn, y_syn = rows(DUAL)
    matrix = f_syn @ f_syn.T
    actual = float(solve_positive(matrix, y_syn)[1])
    assert 1 < actual <= float(torch.linalg.cond(matrix))


def test_krr_predict__condition_falls_as_the_ridge_grows() -> None:
    f_query, f_syn, y_syn = (x.requires_grad_() for x in rows(DUAL))
    actual = [krr_predict(f_query, f_syn, y_syn, ridge_of_mean=r)[1] for r in (1e-6, 1e-2, 1e2)]
    assert actual[0] > actual[1] > actual[2] > 1 and not actual[0].requires_grad
    assert float(actual[2]) < 1.1


def test_cholesky__negative_matrix_is_singular() -> None:
    with pytest.raises(SingularKernelError, match=r"3x3 .* raise the ridge, or remove duplicate"):
        cholesky(torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_krr_predict__refuses_features_that_are_not_finite(bad: float) -> None:
    f_query, f_syn, y_syn = rows(DUAL)
    f_syn[0, 0] = bad
    with pytest.raises(NotFiniteError, match="kernel values are not finite"):
        predicted(f_query, f_syn, y_syn, ridge_of_trace=1e-6)
