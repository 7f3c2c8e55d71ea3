"""Label solve: the best labels of given images for kernel ridge regression, in closed form.

Nguyen, Chen & Lee (ICLR 2021), LS: y = argmin ‖K_nm (K_mm + λI)⁻¹ y - y_source‖² over N images.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from datastill.maths.krr import solve_positive


def solve_labels(
    k_mm: Tensor,  # (M, M) float64, ridge included
    blocks: Iterable[tuple[Tensor, Tensor]],  # of the source: (n, M) float64 and (n, K) float64
) -> tuple[Tensor, Tensor, Tensor]:  # (M, K), (), ()
    """The labels, the mean square left over all N · K source labels, the condition of the solve.

    Normal equations of A = K_nm (K_mm + λI)⁻¹, summed block by block, so that one block is all
    that memory holds. Where the M images are source images, A has nearly a row of the identity
    for each of them: the equations are well conditioned.

    Warns as `krr.cholesky` does where images are alike or the source has fewer than M.
    """
    gram, right, square, count = torch.zeros_like(k_mm), torch.zeros(()), torch.zeros(()), 0
    for k_nm, y_source in blocks:
        a = solve_positive(k_mm, k_nm.T)[0].T  # (n, M)
        gram, right = gram + a.T @ a, right + a.T @ y_source
        square, count = square + y_source.square().sum(), count + y_source.numel()
    labels, condition = solve_positive(gram, right)
    return labels, (square - (labels * right).sum()) / count, condition
