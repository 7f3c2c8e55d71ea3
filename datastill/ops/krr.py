"""Kernel ridge regression on features, primal or dual, solved in float64.

docs/numerics.md has the measured loss of digits in float32.
"""

import warnings
from typing import Any

import torch
from torch import Tensor

from datastill.core.errors import NotFiniteError, NumericalWarning, SingularKernelError
from datastill.core.profile import profile_section

JITTERS = (1e-12, 1e-10, 1e-8, 1e-6)  # added to the diagonal, as shares of its mean


def with_bias(features: Tensor) -> Tensor:  # (B, F) -> (B, F + 1)
    """Append a column of ones, so that a linear map of the features has an intercept.

    Example:
        >>> with_bias(torch.zeros(2, 3))
        tensor([[0., 0., 0., 1.],
                [0., 0., 0., 1.]])
    """
    return torch.cat([features, features.new_ones(len(features), 1)], dim=1)


@profile_section("kernel ridge regression")
def krr_predict(
    f_query: Tensor,
    f_syn: Tensor,
    y_syn: Tensor,
    *,
    ridge_of_trace: float = 0.0,
    ridge_of_mean: float = 0.0,
    ridge_absolute: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Predict targets of query features by kernel ridge regression from distilled pairs.

    The outer loss of KRR-ST (Lee et al., ICLR 2024) compares this prediction with the target
    model's representations: K_bm (K_mm + λI)⁻¹ y_syn with the linear kernel of the features of an
    inner model, and λ = ridge_of_trace · tr(K_mm) + ridge_of_mean · tr(K_mm) / M + ridge_absolute.
    All is computed in float64 and differentiable.

    Args:
        f_query: (B, F) features of real images.
        f_syn: (M, F) features of distilled images.
        y_syn: (M, D) their targets.
        ridge_of_trace: Ridge as a fraction of the trace of the kernel matrix.
        ridge_of_mean: Ridge as a fraction of its mean diagonal.
        ridge_absolute: Ridge as a number.

    Returns:
        (B, D) in the type of `y_syn`, and the condition of the system that was solved, a scalar
        without gradient (see `solve_positive`).

    Raises:
        SingularKernelError: No jitter makes the matrix positive definite.
        NotFiniteError: The features are not finite.

    Example:
        >>> features = with_bias(torch.tensor([[0.0], [1.0], [2.0]]))
        >>> targets = torch.tensor([[1.0], [3.0], [5.0]])  # 2 x + 1
        >>> query = with_bias(torch.tensor([[10.0]]))
        >>> prediction, condition = krr_predict(query, features, targets, ridge_absolute=1e-8)
        >>> round(prediction.item(), 3)
        21.0
    """
    query, phi, y = f_query.double(), f_syn.double(), y_syn.double()
    # the ridge is a constant for the gradient, as in the released code
    trace = phi.detach().square().sum()
    ridge = (ridge_of_trace + ridge_of_mean / len(phi)) * trace + ridge_absolute
    if len(phi) <= phi.shape[1]:
        weights, condition = solve_positive(_add_ridge(gram(phi), ridge), y)
        return ((query @ phi.T) @ weights).to(y_syn.dtype), condition
    # with more images than features, Φ_b (Φ_mᵀΦ_m + λI)⁻¹ Φ_mᵀ y_syn is the same and smaller
    weights, condition = solve_positive(_add_ridge(gram(phi.T), ridge), phi.T @ y)
    return (query @ weights).to(y_syn.dtype), condition


@profile_section("kernel ridge regression")
def krr_map(
    f_syn: Tensor, *, ridge_of_trace: float = 0.0, ridge_of_mean: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return W with f_query · W · y_syn = `krr_predict(f_query, f_syn, y_syn)` for all y_syn.

    W = Φ_mᵀ (Φ_m Φ_mᵀ + λI)⁻¹, or the same as (Φ_mᵀ Φ_m + λI)⁻¹ Φ_mᵀ where that is smaller.

    Args:
        f_syn: (M, F) features of distilled images.
        ridge_of_trace: Ridge as a fraction of the trace of the kernel matrix.
        ridge_of_mean: Ridge as a fraction of its mean diagonal.

    Returns:
        W, (F, M) float64, and the condition of the system (see `solve_positive`).

    Raises:
        SingularKernelError: No jitter makes the matrix positive definite.
        NotFiniteError: The features are not finite.

    Example:
        >>> krr_map(torch.eye(2), ridge_of_mean=3.0)[0].tolist()
        [[0.25, 0.0], [0.0, 0.25]]
    """
    phi = f_syn.double()
    ridge = (ridge_of_trace + ridge_of_mean / len(phi)) * phi.square().sum()
    if len(phi) <= phi.shape[1]:
        solution, condition = solve_positive(_add_ridge(gram(phi), ridge), phi)
        return solution.T, condition
    return solve_positive(_add_ridge(gram(phi.T), ridge), phi.T)


def _add_ridge(matrix: Tensor, ridge: Tensor) -> Tensor:
    return matrix + ridge * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)


def gram(phi: Tensor) -> Tensor:  # (M, F) -> (M, M)
    """Compute Φ Φᵀ, whose gradient takes one product as it is symmetric; autograd takes two."""
    product: Tensor = _Gram.apply(phi)  # type: ignore[no-untyped-call]
    return product


class _Gram(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, phi: Tensor) -> Tensor:
        ctx.save_for_backward(phi)
        return phi @ phi.T

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (phi,) = ctx.saved_tensors
        grad_phi: Tensor = (gradient + gradient.T) @ phi
        return grad_phi


def solve_positive(
    matrix: Tensor,
    right: Tensor,
) -> tuple[Tensor, Tensor]:
    """Solve matrix · x = right for a symmetric positive definite matrix.

    Args:
        matrix: (M, M).
        right: (M, D).

    Returns:
        x, (M, D), once differentiable in both; and the condition (max Lᵢᵢ / min Lᵢᵢ)² of the
        Cholesky factor L, a lower bound of the ratio of the largest to the smallest eigenvalue.
        Digits are lost beyond about 1e12.

    Raises:
        SingularKernelError: No jitter makes the matrix positive definite.
        NotFiniteError: The matrix has a value that is not finite.

    Example:
        >>> x, condition = solve_positive(torch.diag(torch.tensor([1.0, 4.0])), torch.ones(2, 1))
        >>> x.flatten().tolist(), condition.item()
        ([1.0, 0.25], 4.0)
    """
    solved: tuple[Tensor, Tensor] = _SolvePositive.apply(matrix, right)  # type: ignore[no-untyped-call]
    return solved


class _SolvePositive(torch.autograd.Function):
    """Keep the factor of the forward pass, so that the backward pass is one solve with it."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        factor = cholesky(matrix)
        solution = torch.cholesky_solve(right, factor)
        ctx.save_for_backward(factor, solution)
        pivots = factor.diagonal()
        condition = (pivots.max() / pivots.min()).square()
        ctx.mark_non_differentiable(condition)
        return solution, condition

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        factor, solution = ctx.saved_tensors
        grad_right = torch.cholesky_solve(gradients[0], factor)
        return -grad_right @ solution.T, grad_right


def cholesky(matrix: Tensor) -> Tensor:  # (M, M) -> (M, M) lower
    """Compute the Cholesky factor; add growing jitter to the diagonal if that fails.

    Jitter comes with a `NumericalWarning`.

    Raises:
        SingularKernelError: No jitter makes the matrix positive definite.
        NotFiniteError: The matrix has a value that is not finite.
    """
    factor, failed = _factor(matrix)
    if not failed:
        return factor
    if not bool(matrix.isfinite().all()):
        bad = int((~matrix.isfinite()).sum())
        raise NotFiniteError(
            f"{bad} of {matrix.numel()} kernel values are not finite; lower the learning rates"
        )
    mean = matrix.diagonal().mean()
    for jitter in JITTERS:
        eye = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
        factor, failed = _factor(matrix + jitter * mean * eye)
        if not failed:
            warnings.warn(
                f"a {len(matrix)}x{len(matrix)} kernel matrix is not positive definite; added"
                f" {jitter:g} of its mean diagonal. A larger ridge would avoid this",
                NumericalWarning,
                stacklevel=2,
            )
            return factor
    raise SingularKernelError(
        f"a {len(matrix)}x{len(matrix)} kernel matrix is singular even with a jitter of"
        f" {JITTERS[-1]:g} of its mean diagonal; raise the ridge, or remove duplicate images"
    )


def _factor(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return (factor, whether it failed)."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    # a smallest pivot that is only rounding error counts as a failure too
    rounding = torch.finfo(matrix.dtype).eps * len(matrix) * matrix.diagonal().mean()
    regular = factor.diagonal().min().square() > rounding
    return factor, (info != 0) | ~regular
