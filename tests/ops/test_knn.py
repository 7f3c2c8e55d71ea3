"""Nearest neighbours: against a loop over rows, scikit-learn, and what must not matter."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from datastill.core.errors import DataError
from datastill.ops import knn
from datastill.ops.knn import knn_predict

K = 4


def toy(seed: int = 0, count: int = 30) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    train = torch.randn(count, 5, dtype=torch.float64, generator=generator)
    labels = torch.randint(0, K, (count,), generator=generator)
    return train, labels, torch.randn(9, 5, dtype=torch.float64, generator=generator)


def votes(train: Tensor, labels: Tensor, query: Tensor, **changes: Any) -> Tensor:
    settings = {"k": 7, "temperature": 0.1, "num_classes": K, **changes}
    return knn_predict(train, labels, query, **settings)


def votes_in_loops(
    train: np.ndarray, labels: np.ndarray, query: np.ndarray, k: int, temperature: float
) -> np.ndarray:
    """Section 3.4 of Wu et al., row by row, each row's votes divided by their sum."""
    table = np.zeros((len(query), K))
    for row, x in enumerate(query):
        cosines = [float(x @ y / np.linalg.norm(x) / np.linalg.norm(y)) for y in train]
        for n in sorted(range(len(train)), key=lambda n: -cosines[n])[:k]:
            table[row, labels[n]] += math.exp(cosines[n] / temperature)
    return table / table.sum(1, keepdims=True)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (7, 0.07), (30, 0.5)])
def test_knn_predict__equals_votes_in_loops(k: int, temperature: float) -> None:
    train, labels, query = toy()
    shares = votes(train, labels, query, k=k, temperature=temperature)
    expected = votes_in_loops(train.numpy(), labels.numpy(), query.numpy(), k, temperature)
    np.testing.assert_allclose(shares.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_knn_predict__with_infinite_temperature_equals_scikit_learn() -> None:
    train, labels, query = toy()
    plain = KNeighborsClassifier(7, metric="cosine", algorithm="brute").fit(train, labels)
    shares = votes(train, labels, query, temperature=math.inf)
    np.testing.assert_allclose(shares[:, plain.classes_].numpy(), plain.predict_proba(query))


def test_knn_predict__blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    all_at_once = votes(*toy())
    monkeypatch.setattr(knn, "BLOCK", 4)
    torch.testing.assert_close(votes(*toy()), all_at_once)


def test_knn_predict__tiny_temperature_and_zero_rows_stay_finite() -> None:
    train, labels, query = toy()
    query[0] = 0
    assert votes(train, labels, query, temperature=1e-6).isfinite().all()


@pytest.mark.parametrize("wrong", [{"k": 0}, {"k": 31}, {"temperature": 0.0}], ids=str)
def test_knn_predict__refuses_settings_without_meaning(wrong: dict[str, float]) -> None:
    with pytest.raises(DataError, match="k must be in"):
        votes(*toy(), **wrong)


def test_knn_predict__refuses_shapes_that_do_not_fit() -> None:
    train, labels, query = toy()
    for wrong in [
        (train, labels[1:], query),
        (train, labels, query[:, 1:]),
        (train, labels, query[:0]),
    ]:
        with pytest.raises(DataError, match="B > 0"):
            votes(*wrong)
