"""Numbers that judge: accuracy, R², and means with Student's 95 % interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special  # type: ignore[import-untyped, unused-ignore]  # scipy has no types
from torch import Tensor

from datastill.ground.errors import DataError, NumericalError


def accuracy_percent(
    logits: Tensor,  # (B, K)
    labels: Tensor,  # (B,) int64
) -> float:
    """How many rows have their largest logit at the label, in percent.

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
    """1 - SSE / SST in float64, sums over all N and D, SST about the mean of each dimension.

    Raises:
        DataError: the shapes differ or there are no rows.
        NumericalError: the truth is the same in every row, so that there is nothing to explain.
    """
    if prediction.shape != truth.shape or truth.dim() != 2 or truth.numel() == 0:
        raise DataError(
            f"R² needs two (N, D) tensors of one shape;"
            f" got {tuple(prediction.shape)} and {tuple(truth.shape)}"
        )
    wanted = truth.double()
    unexplained = (wanted - prediction.double()).square().sum()
    total = (wanted - wanted.mean(0)).square().sum()
    if float(total) == 0:
        raise NumericalError("R² has no value: all rows of the truth are equal")
    return float(1 - unexplained / total)


@dataclass(frozen=True)
class Summary:
    """Mean of n independent values and how well it is known."""

    mean: float
    std: float  # of the sample (n - 1); NaN where n is 1
    n: int
    half_width95: float  # of Student's 95 % interval; NaN where n is 1

    @property
    def low(self) -> float:
        return self.mean - self.half_width95

    @property
    def high(self) -> float:
        return self.mean + self.half_width95


@dataclass(frozen=True)
class Difference:
    """A difference of two means with its 95 % interval."""

    mean: float
    half_width95: float  # NaN where a side has one value only
    paired: bool  # by seed; otherwise Welch's interval

    @property
    def low(self) -> float:
        return self.mean - self.half_width95

    @property
    def high(self) -> float:
        return self.mean + self.half_width95

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval; never where there is no interval."""
        return self.low > 0 or self.high < 0


def summarize(values: Sequence[float]) -> Summary:
    """Mean, sample standard deviation and Student's 95 % interval of at least one value."""
    if len(values) == 0:
        raise DataError("a mean of no values was asked for")
    x = np.asarray(values, np.float64)
    if len(x) == 1:
        return Summary(float(x[0]), math.nan, 1, math.nan)
    std = float(x.std(ddof=1))
    return Summary(float(x.mean()), std, len(x), _t95(len(x) - 1) * std / math.sqrt(len(x)))


def difference(a: Sequence[float], b: Sequence[float], *, paired: bool) -> Difference:
    """mean(a) - mean(b) with its 95 % interval.

    Paired, a[k] and b[k] must share a seed: what both owe to it cancels. Otherwise the variances
    may differ (Welch, 1947).
    """
    if paired and len(a) != len(b):
        raise DataError(f"a paired difference needs as many values of both; got {len(a)}, {len(b)}")
    if paired:
        pairs = summarize([x - y for x, y in zip(a, b, strict=True)])
        return Difference(pairs.mean, pairs.half_width95, paired=True)
    one, two = summarize(a), summarize(b)
    return Difference(one.mean - two.mean, _welch_half_width95(one, two), paired=False)


def _welch_half_width95(one: Summary, two: Summary) -> float:
    if min(one.n, two.n) < 2:
        return math.nan
    u, v = one.std**2 / one.n, two.std**2 / two.n  # variances of the two means
    if u + v == 0:
        return 0.0
    freedom = (u + v) ** 2 / (u**2 / (one.n - 1) + v**2 / (two.n - 1))
    return _t95(freedom) * math.sqrt(u + v)


def _t95(freedom: float) -> float:
    return float(special.stdtrit(freedom, 0.975))
