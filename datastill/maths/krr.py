"""Kernel ridge regression on features, primal or dual, solved in float64.

KRR-ST (Lee et al., ICLR 2024), equation of the outer loss: f(x) = K_x,syn (K_syn,syn + λI)⁻¹ y_syn
with the linear kernel of the features of an inner model. See docs/numerics.md for the measured
loss of digits in float32.
"""

import warnings
from typing import Any

import torch
from torch import Tensor

from datastill.ground.errors import NotFiniteError, NumericalWarning, SingularKernelError
from datastill.ground.profile import part_of_step

JITTERS = (1e-12, 1e-10, 1e-8, 1e-6)  # added to the diagonal, as shares of its mean


def with_bias(features: Tensor) -> Tensor:  # (B, F) -> (B, F + 1)
    """Append a column of ones, so that a linear map of features has an intercept."""
    return torch.cat([features, features.new_ones(len(features), 1)], dim=1)


@part_of_step("kernel ridge regression")
def krr_predict(
    f_query: Tensor,  # (B, F)
    f_syn: Tensor,  # (M, F)
    y_syn: Tensor,  # (M, D)
    *,
    ridge_of_trace: float = 0.0,
    ridge_of_mean: float = 0.0,
    ridge_absolute: float = 0.0,
) -> tuple[Tensor, Tensor]:  # (B, D), ()
    """K_bm (K_mm + λI)⁻¹ y_syn in the type of `y_syn`, and the condition of what was solved.

    Computed in float64. The condition is that of `solve_positive`, without gradient.

    λ = ridge_of_trace · tr(K_mm) + ridge_of_mean · tr(K_mm) / M + ridge_absolute. The trace is a
    constant for the gradient, as in the released code. Where F < M the same prediction comes from
    the smaller system Φ_b (Φ_mᵀΦ_m + λI)⁻¹ Φ_mᵀ y_syn.

    Raises:
        SingularKernelError: no jitter makes the matrix positive definite.
        NotFiniteError: the features are not finite.
    """
    query, phi, y = f_query.double(), f_syn.double(), y_syn.double()
    trace = phi.detach().square().sum()
    ridge = (ridge_of_trace + ridge_of_mean / len(phi)) * trace + ridge_absolute
    if len(phi) <= phi.shape[1]:
        weights, condition = solve_positive(_regular(gram(phi), ridge), y)
        return ((query @ phi.T) @ weights).to(y_syn.dtype), condition
    weights, condition = solve_positive(_regular(gram(phi.T), ridge), phi.T @ y)
    return (query @ weights).to(y_syn.dtype), condition


def _regular(gram: Tensor, ridge: Tensor) -> Tensor:
    return gram + ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)


def gram(phi: Tensor) -> Tensor:  # (M, F) -> (M, M)
    """Φ Φᵀ. It is symmetric, so that its gradient takes one product; autograd would take two."""
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
        back: Tensor = (gradient + gradient.T) @ phi
        return back


def solve_positive(
    matrix: Tensor,  # (M, M)
    right: Tensor,  # (M, D)
) -> tuple[Tensor, Tensor]:  # (M, D), ()
    """(matrix⁻¹ right, condition) for a symmetric positive definite matrix.

    The solution is once differentiable in both. The condition comes free with the Cholesky factor
    L: (max Lᵢᵢ / min Lᵢᵢ)², a lower bound of the ratio of the largest to the smallest eigenvalue;
    digits are lost beyond about 1e12. Adds jitter to the diagonal where the factorisation fails,
    and says how much.
    """
    solved: tuple[Tensor, Tensor] = _SolvePositive.apply(matrix, right)  # type: ignore[no-untyped-call]
    return solved


class _SolvePositive(torch.autograd.Function):
    """Keeps the factor of the forward pass: the backward pass is one more solve with it."""

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
        to_right = torch.cholesky_solve(gradients[0], factor)
        return -to_right @ solution.T, to_right


def cholesky(matrix: Tensor) -> Tensor:  # (M, M) -> (M, M) lower
    """The Cholesky factor, with growing jitter where it fails at first.

    Raises:
        SingularKernelError: no jitter makes the matrix positive definite.
        NotFiniteError: the matrix has a value that is not finite.
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
    """(factor, failed); a smallest pivot that is only rounding error counts as failed too."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    rounding = torch.finfo(matrix.dtype).eps * len(matrix) * matrix.diagonal().mean()
    regular = factor.diagonal().min().square() > rounding
    return factor, (info != 0) | ~regular
