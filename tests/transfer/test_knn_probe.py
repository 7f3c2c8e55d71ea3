"""The k-NN probe against scikit-learn, and its rules for few images."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from factories import measured, toy_network, toy_task
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from datastill.core.rng import fork
from datastill.images import ImageSet
from datastill.networks.architecture import Network
from datastill.transfer.knn_probe import KnnProbe
from datastill.transfer.task import TaskData


def hard_task() -> TaskData:
    """Test images that are mostly noise, so that neighbours disagree."""
    data = toy_task(48)
    noise = torch.randint(0, 200, data.test.images.shape, generator=fork(0, "noise"))
    images = (data.test.images // 5 + noise).to(torch.uint8)
    return replace(data, test=replace(data.test, images=images))


def embedded(network: Network, images: ImageSet) -> Tensor:
    with torch.no_grad():
        return network.embed(images.normalized(slice(None))).double()


@pytest.mark.parametrize("k", [1, 5])
def test_knn_probe__equals_scikit_learn_where_all_neighbours_count_the_same(k: int) -> None:
    network, data = toy_network(), hard_task()
    model = KNeighborsClassifier(k, metric="cosine", algorithm="brute")
    model.fit(embedded(network, data.train).numpy(), data.train.labels)
    expected = 100 * model.score(embedded(network, data.test).numpy(), data.test.labels)
    results = measured(KnnProbe(k=k, temperature=None), data=data, network=network)
    assert results[0].accuracy_percent == pytest.approx(expected)
    assert (results[0].setting, results[0].steps) == ("all, body", 0)


def test_knn_probe__equals_weighted_votes_of_scikit_learn() -> None:
    network, data = toy_network(), hard_task()
    model = KNeighborsClassifier(
        30, metric="cosine", algorithm="brute", weights=lambda d: np.exp(-d / 0.05)
    )
    model.fit(embedded(network, data.train).numpy(), data.train.labels)
    expected = 100 * model.score(embedded(network, data.test).numpy(), data.test.labels)
    results = measured(KnnProbe(k=30, temperature=0.05), data=data, network=network)
    assert results[0].accuracy_percent == pytest.approx(expected)


def test_knn_probe__fewer_images_than_k_all_vote() -> None:
    probe = KnnProbe(k=100, labels=("2-per-class",))
    assert measured(probe) == measured(replace(probe, k=8))
