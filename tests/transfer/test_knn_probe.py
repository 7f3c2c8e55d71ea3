"""The k-NN probe against scikit-learn, and its rules for few images."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from factories import embedded, measured, toy_network, toy_task
from sklearn.neighbors import KNeighborsClassifier

from datastill.core.rng import fork
from datastill.transfer.knn_probe import KnnProbe
from datastill.transfer.task import TaskData


def hard_task() -> TaskData:
    """Test images that are mostly noise, so that neighbours disagree."""
    data = toy_task(48)
    noise = torch.randint(0, 200, data.test.images.shape, generator=fork(0, "noise"))
    images = (data.test.images // 5 + noise).to(torch.uint8)
    return replace(data, test=replace(data.test, images=images))


@pytest.mark.parametrize(("k", "temperature"), [(1, None), (5, None), (30, 0.05)])
def test_knn_probe__equals_votes_of_scikit_learn(k: int, temperature: float | None) -> None:
    network, data = toy_network(), hard_task()
    weights = temperature and (lambda distance: np.exp(-distance / temperature))
    model = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=weights)
    model.fit(embedded(network, data.train).numpy(), data.train.labels)
    expected = 100 * model.score(embedded(network, data.test).numpy(), data.test.labels)
    results = measured(KnnProbe(k=k, temperature=temperature), data=data, network=network)
    assert results[0].accuracy_percent == pytest.approx(expected)
    assert (results[0].setting, results[0].steps) == ("all, body", 0)


def test_knn_probe__fewer_images_than_k_all_vote() -> None:
    probe = KnnProbe(k=100, labels=("2-per-class",))
    assert measured(probe) == measured(replace(probe, k=8))
