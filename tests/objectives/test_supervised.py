"""The supervised objective against cross-entropy in NumPy."""

import numpy as np
import pytest
from ranks import CLASSES, labels, modules, two_views

from datastill.objectives.objective import Views
from datastill.objectives.supervised import Supervised


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_supervised__equals_cross_entropy_in_numpy(smoothing: float) -> None:
    network, heads = modules(objective := Supervised(label_smoothing=smoothing))
    pixels = two_views().flatten(0, 1)
    logits = heads(network(pixels)).detach().numpy()
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    target = np.full(probabilities.shape, smoothing / CLASSES)
    target[np.arange(len(target)), np.tile(labels().numpy(), 2)] += 1 - smoothing
    expected = -(target * np.log(probabilities)).sum(1).mean()
    actual = objective.loss(heads, network, Views(pixels, labels())).detach()
    assert float(actual) == pytest.approx(expected, rel=1e-9)
