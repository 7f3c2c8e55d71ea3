"""Label solve: the best labels of fixed images for kernel ridge regression, in closed form."""

from collections.abc import Iterable

import torch
from torch import Tensor

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
