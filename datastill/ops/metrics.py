"""Accuracy and R²."""

from torch import Tensor

from datastill.core.errors import DataError, NumericalError


def accuracy_percent(
    logits: Tensor,  # (B, K)
    labels: Tensor,  # (B,) int64
) -> float:
    """Return how many rows have their largest logit at the label, in percent.

    Raises:
        DataError: the shapes do not fit, or there are no rows.
    """
    if logits.dim() != 2 or logits.shape[:1] != labels.shape or len(labels) == 0:
        raise DataError(
            f"accuracy needs logits (B, K) and labels (B,), B > 0;"
            f" got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    return 100 * float((logits.argmax(1) == labels).double().mean())


def r_squared(
    prediction: Tensor,  # (N, D)
    truth: Tensor,  # (N, D)
) -> float:
    """Return 1 - SSE / SST in float64, summed over N and D, SST about the mean of each dimension.

    Raises:
        DataError: the shapes differ or there are no rows.
        NumericalError: the truth is the same in every row, so that there is nothing to explain.
    """
    if prediction.shape != truth.shape or truth.dim() != 2 or truth.numel() == 0:
        raise DataError(
            f"R² needs two (N, D) tensors of one shape;"
            f" got {tuple(prediction.shape)} and {tuple(truth.shape)}"
        )
    target = truth.double()
    unexplained = (target - prediction.double()).square().sum()
    total = (target - target.mean(0)).square().sum()
    if float(total) == 0:
        raise NumericalError("R² has no value: all rows of the truth are equal")
    return float(1 - unexplained / total)
