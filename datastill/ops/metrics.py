"""Accuracy and R²."""

from torch import Tensor

from datastill.core.errors import DataError, NumericalError


def accuracy_percent(
    logits: Tensor,  # (B, K)
    labels: Tensor,  # (B,) int64
) -> float:
    """Return the percentage of rows whose largest logit is that of their label.

    Raises:
        DataError: The shapes do not fit, or there are no rows.
    """
    if logits.dim() != 2 or logits.shape[:1] != labels.shape or len(labels) == 0:
        raise DataError(
            f"accuracy needs logits (B, K) and labels (B,), B > 0;"
            f" got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    return 100 * float((logits.argmax(1) == labels).double().mean())


def r_squared(
    prediction: Tensor,  # (N, D)
    target: Tensor,  # (N, D)
) -> float:
    """Return 1 - SSE / SST in float64, summed over N and D, SST about the mean of each dimension.

    Raises:
        DataError: The shapes differ, or there are no rows.
        NumericalError: All rows of the target are equal, so that R² is undefined.
    """
    if prediction.shape != target.shape or target.dim() != 2 or target.numel() == 0:
        raise DataError(
            f"R² needs two (N, D) tensors of one shape;"
            f" got {tuple(prediction.shape)} and {tuple(target.shape)}"
        )
    target = target.double()
    unexplained = (target - prediction.double()).square().sum()
    total = (target - target.mean(0)).square().sum()
    if float(total) == 0:
        raise NumericalError("R² is undefined: all rows of the target are equal")
    return float(1 - unexplained / total)
