"""Label solve: the best labels of fixed images for kernel ridge regression, in closed form."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from datastill.core.errors import SingularKernelError
from datastill.ops.krr import solve_positive


def solve_labels(
    k_mm: Tensor,
    blocks: Iterable[tuple[Tensor, Tensor]],
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the labels y of M images that minimise ‖K_nm (K_mm + λI)⁻¹ y - y_source‖².

    Source: LS of Nguyen, Chen & Lee (ICLR 2021). Solves the normal equations of
    A = K_nm (K_mm + λI)⁻¹. If the M images are source images, A has nearly a row of the identity
    for each of them, so that the equations are well conditioned.

    Args:
        k_mm: (M, M) float64 kernel matrix of the images with the ridge on its diagonal.
        blocks: Pairs of (n, M) float64 kernel matrix and (n, K) float64 labels of n source images;
            memory holds one block at a time.

    Returns:
        The labels (M, K); the mean squared error over all source labels, and the condition of the
        solve (see `krr.solve_positive`), both scalars.

    Raises:
        SingularKernelError: Images are so much alike that the equations cannot be solved.

    Example:
        >>> k_mm = torch.eye(2, dtype=torch.float64)
        >>> y_source = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
        >>> labels, error, condition = solve_labels(k_mm, [(k_mm, y_source)])
        >>> labels.flatten().tolist(), error.item()
        ([1.0, 2.0], 0.0)
    """
    gram, right, square, count = torch.zeros_like(k_mm), torch.zeros(()), torch.zeros(()), 0
    for k_nm, y_source in blocks:
        a = solve_positive(k_mm, k_nm.T)[0].T  # (n, M)
        gram, right = gram + a.T @ a, right + a.T @ y_source
        square, count = square + y_source.square().sum(), count + y_source.numel()
    labels, condition = solve_positive(gram, right)
    return labels, (square - (labels * right).sum()) / count, condition


@dataclass
class LeastSquares:
    """Sums over blocks of rows from which the y with the least ‖A y - g‖² is solved, in float64.

    Example:
        >>> sums = LeastSquares.zeros(unknowns=2, outputs=1)
        >>> sums.add(torch.eye(2), torch.tensor([[1.0], [2.0]]))
        >>> y = sums.solve(torch.zeros(2, 1), share_of_start=0.0)
        >>> y.flatten().tolist(), sums.mean_squared_error(y).item()
        ([1.0, 2.0], 0.0)
    """

    gram: Tensor  # (U, U) for U unknowns: Σ aᵀa
    right: Tensor  # (U, D): Σ aᵀg
    total: Tensor  # (D,): Σ g
    square: Tensor  # (D,): Σ g²
    rows: Tensor  # (): number of rows

    @staticmethod
    def zeros(unknowns: int, outputs: int, device: str = "cpu") -> "LeastSquares":
        """Return the sums over no rows."""
        shapes = (unknowns, unknowns), (unknowns, outputs), (outputs,), (outputs,), ()
        return LeastSquares(*(torch.zeros(x, dtype=torch.float64, device=device) for x in shapes))

    def clear(self) -> None:
        """Forget all rows."""
        for sums in (self.gram, self.right, self.total, self.square, self.rows):
            sums.zero_()

    def add(self, a: Tensor, g: Tensor) -> None:  # (n, U), (n, D)
        """Add n rows."""
        a, g = a.double(), g.double()
        self.gram += a.T @ a
        self.right += a.T @ g
        self.total += g.sum(0)
        self.square += g.square().sum(0)
        self.rows += len(g)

    def add_mapped(self, other: "LeastSquares", weights: Tensor) -> None:  # (F, U)
        """Add the rows a · `weights` for all rows a of `other`, whose unknowns are F."""
        self.gram += weights.T @ other.gram @ weights
        self.right += weights.T @ other.right
        self.total += other.total
        self.square += other.square
        self.rows += other.rows

    def solve(self, start: Tensor, *, share_of_start: float) -> Tensor:
        """Minimise ‖A y - g‖² + e ‖y - start‖², e = share_of_start · mean diagonal of AᵀA.

        Args:
            start: (U, D).
            share_of_start: Decides about directions that the rows leave open.

        Returns:
            y, (U, D) float64.

        Raises:
            SingularKernelError: No jitter makes the equations positive definite.
            NotFiniteError: A row is not finite.
        """
        e = share_of_start * self.gram.diagonal().mean()
        eye = torch.eye(len(self.gram), dtype=self.gram.dtype, device=self.gram.device)
        try:
            return solve_positive(self.gram + e * eye, self.right + e * start.double())[0]
        except SingularKernelError as error:
            raise SingularKernelError(
                f"the equations of {len(self.gram)} targets are singular; raise --method.eps (now"
                f" {share_of_start:g}), or take more inner models or real images"
            ) from error

    def mean_squared_error(self, y: Tensor) -> Tensor:  # (U, D) float64 -> ()
        """Return the mean of (A y - g)² over all rows and outputs."""
        error = (y * (self.gram @ y)).sum() - 2 * (y * self.right).sum() + self.square.sum()
        return error / (self.rows * len(self.square))

    @property
    def mean(self) -> Tensor:
        """The mean of g over the rows, (D,)."""
        return self.total / self.rows

    @property
    def deviation(self) -> Tensor:
        """The standard deviation of g over the rows, (D,)."""
        return (self.square / self.rows - self.mean.square()).clamp_min(0).sqrt()


def rescale(y: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Stretch each column of y about `mean` so that it has the standard deviation `deviation`.

    A column of equal values stays as it is.

    Args:
        y: (M, D).
        mean: (D,), values that stay where they are.
        deviation: (D,), over the M rows, divided by M.

    Example:
        >>> y, one = torch.tensor([[-1.0], [1.0]]), torch.ones(1)
        >>> rescale(y, 0 * one, 3 * one).flatten().tolist()
        [-3.0, 3.0]
    """
    own = y.std(0, correction=0)
    factor = torch.where(own > 0, deviation / own, 1.0)
    return mean + (y - mean) * factor
