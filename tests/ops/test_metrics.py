"""metrics: against hand computation and scikit-learn."""

import pytest
import torch
from sklearn.metrics import r2_score

from datastill.core.errors import DataError, NumericalError
from datastill.ops.metrics import accuracy_percent, r_squared


def test_accuracy_percent__counts_rows_whose_largest_logit_is_the_label() -> None:
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0], [0.0, 9.0]])
    assert accuracy_percent(logits, torch.tensor([0, 1, 1, 1])) == 75.0


@pytest.mark.parametrize("labels", [torch.zeros(3, dtype=torch.int64), torch.zeros(2, 1)])
def test_accuracy_percent__refuses_shapes_that_do_not_fit(labels: torch.Tensor) -> None:
    with pytest.raises(DataError, match="logits"):
        accuracy_percent(torch.zeros(2, 5), labels)


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
    with pytest.raises(NumericalError, match="is undefined"):
        r_squared(torch.zeros(3, 2), torch.ones(3, 2))


def test_r_squared__refuses_different_shapes() -> None:
    with pytest.raises(DataError, match="one shape"):
        r_squared(torch.zeros(3, 2), torch.ones(3, 1))
