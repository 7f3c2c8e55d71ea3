"""metrics: against hand computation, scikit-learn and SciPy."""

import math

import pytest
import torch
from scipy import stats
from sklearn.metrics import r2_score

from datastill.ground.errors import DataError, NumericalError
from datastill.maths.metrics import accuracy_percent, difference, r_squared, summarize


def test_accuracy_percent__counts_rows_whose_largest_logit_is_the_label() -> None:
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0], [0.0, 9.0]])
    assert accuracy_percent(logits, torch.tensor([0, 1, 1, 1])) == 75.0


@pytest.mark.parametrize("labels", [torch.zeros(3, dtype=torch.int64), torch.zeros(2, 1)])
def test_accuracy_percent__refuses_shapes_that_do_not_fit(labels: torch.Tensor) -> None:
    with pytest.raises(DataError, match="logits"):
        accuracy_percent(torch.zeros(2, 5), labels)


def test_accuracy_percent__refuses_no_rows() -> None:
    with pytest.raises(DataError, match="B > 0"):
        accuracy_percent(torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64))


def test_r_squared__equals_scikit_learn_weighted_by_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(50, 4, generator=generator) * torch.tensor([1.0, 2.0, 0.1, 5.0]) + 3
    prediction = truth + torch.randn(50, 4, generator=generator)
    expected = r2_score(truth.double(), prediction.double(), multioutput="variance_weighted")
    assert r_squared(prediction, truth) == pytest.approx(expected, rel=1e-12)


def test_r_squared__of_the_mean_is_zero() -> None:
    truth = torch.tensor([[1.0, 5.0], [3.0, 9.0]])
    assert r_squared(truth.mean(0).expand(2, 2), truth) == 0.0


def test_r_squared__refuses_a_constant_truth() -> None:
    with pytest.raises(NumericalError, match="no value"):
        r_squared(torch.zeros(3, 2), torch.ones(3, 2))


def test_r_squared__refuses_different_shapes() -> None:
    with pytest.raises(DataError, match="one shape"):
        r_squared(torch.zeros(3, 2), torch.ones(3, 1))


def test_summarize__by_hand() -> None:
    summary = summarize([48.0, 50.0, 52.0])
    assert (summary.mean, summary.std, summary.n) == (50.0, 2.0, 3)
    assert summary.half_width95 == pytest.approx(4.302652729911275 * 2 / math.sqrt(3))
    assert (summary.low, summary.high) == pytest.approx((45.0318, 54.9682), abs=1e-3)


def test_summarize__one_value_has_no_interval() -> None:
    summary = summarize([3.0])
    assert summary.mean == 3.0
    assert math.isnan(summary.half_width95) and math.isnan(summary.low)


def test_summarize__refuses_no_values() -> None:
    with pytest.raises(DataError, match="no values"):
        summarize([])


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


def test_difference__refuses_unequal_pairs() -> None:
    with pytest.raises(DataError, match="as many"):
        difference([1.0], [1.0, 2.0], paired=True)
