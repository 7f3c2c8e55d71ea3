"""statistics: against hand computation and SciPy."""

import math

import pytest
from scipy import stats

from datastill.report.statistics import difference, summarize


def test_summarize__by_hand() -> None:
    summary = summarize([48.0, 50.0, 52.0])
    assert (summary.mean, summary.std, summary.n) == (50.0, 2.0, 3)
    assert summary.half_width95 == pytest.approx(4.302652729911275 * 2 / math.sqrt(3))
    assert (summary.low, summary.high) == pytest.approx((45.0318, 54.9682), abs=1e-3)


def test_summarize__one_value_has_no_interval() -> None:
    summary = summarize([3.0])
    assert summary.mean == 3.0
    assert math.isnan(summary.half_width95) and math.isnan(summary.low)


def test_difference__paired_equals_scipy() -> None:
    a, b = [3.1, 4.0, 5.2, 6.9], [2.0, 3.5, 4.1, 5.0]
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    gap = difference(a, b, paired=True)
    assert (gap.low, gap.high) == pytest.approx((expected.low, expected.high))
    assert gap.excludes_zero


def test_difference__unpaired_equals_scipy_welch() -> None:
    a, b = [3.1, 4.0, 5.2, 6.9], [2.0, 3.5, 9.1]
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    gap = difference(a, b, paired=False)
    assert (gap.low, gap.high) == pytest.approx((expected.low, expected.high))
    assert not gap.excludes_zero


def test_difference__single_values_prove_nothing() -> None:
    for paired in (True, False):
        gap = difference([90.0], [1.0], paired=paired)
        assert gap.mean == 89.0 and not gap.excludes_zero


def test_difference__without_spread_has_no_width() -> None:
    gap = difference([2.0, 2.0], [1.0, 1.0, 1.0], paired=False)
    assert (gap.low, gap.high) == (1.0, 1.0)
