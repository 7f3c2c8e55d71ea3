"""Means with Student's 95 % interval, and differences of means."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats  # type: ignore[import-untyped, unused-ignore]  # scipy has no types


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval."""

    mean: float
    half_width95: float  # NaN where a single value gives no interval

    @property
    def low(self) -> float:
        return self.mean - self.half_width95

    @property
    def high(self) -> float:
        return self.mean + self.half_width95


@dataclass(frozen=True)
class Summary(Interval):
    """Mean of n independent values with Student's interval."""

    std: float  # of the sample (n - 1); NaN where n is 1
    n: int


@dataclass(frozen=True)
class Difference(Interval):
    """A difference of two means."""

    paired: bool  # by seed; otherwise Welch's interval

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval; False where there is no interval."""
        return self.low > 0 or self.high < 0


def summarize(values: Sequence[float]) -> Summary:
    """Compute mean, sample standard deviation and Student's 95 % interval of one or more values.

    Example:
        >>> summary = summarize([48.0, 50.0, 52.0])
        >>> f"{summary.mean} ± {summary.half_width95:.2f}"
        '50.0 ± 4.97'
    """
    x = np.asarray(values, np.float64)
    if len(x) == 1:
        return Summary(float(x[0]), math.nan, math.nan, 1)
    std = float(x.std(ddof=1))
    half_width = float(stats.t.ppf(0.975, len(x) - 1)) * std / math.sqrt(len(x))
    return Summary(float(x.mean()), half_width, std, len(x))


def difference(a: Sequence[float], b: Sequence[float], *, paired: bool) -> Difference:
    """Compute mean(a) - mean(b) with its 95 % interval.

    Args:
        a: Values, one per measurement.
        b: Values to subtract; if paired, b[k] has the seed of a[k].
        paired: Use the differences per seed, in which what both owe to the seed cancels. Otherwise
            the variances may differ (Welch, 1947).

    Returns:
        The difference; without interval where a side has a single value.
    """
    if paired:
        pairs = summarize([x - y for x, y in zip(a, b, strict=True)])
        return Difference(pairs.mean, pairs.half_width95, paired=True)
    one, two = summarize(a), summarize(b)
    half_width = math.nan
    if min(one.n, two.n) > 1:
        u, v = one.std**2 / one.n, two.std**2 / two.n  # variances of the two means
        # scipy.stats.ttest_ind gives no interval where both variances are 0
        freedom = (u + v) ** 2 / (u**2 / (one.n - 1) + v**2 / (two.n - 1)) if u + v else 1.0
        half_width = float(stats.t.ppf(0.975, freedom)) * math.sqrt(u + v)
    return Difference(one.mean - two.mean, half_width, paired=False)
