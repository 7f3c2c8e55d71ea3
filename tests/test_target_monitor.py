"""The monitor of target training: its numbers, its alarm, and that it changes nothing."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from factories import NETWORK, equal, logged, toy_images, toy_network, weights
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from datastill.core.errors import ConfigError, DataWarning, NotFiniteError
from datastill.core.machine import Machine
from datastill.images import ImageSet
from datastill.objectives.barlow_twins import BarlowTwins
from datastill.target_monitor import TargetMonitor
from datastill.train_target import TargetTraining, train_target

KNOWN, ASKED = toy_images(), toy_images(16, name="toy/test")
HARD = replace(ASKED, images=ASKED.images // 3 + 80)  # not every answer is right
TRAINING = TargetTraining(NETWORK, 5, BarlowTwins(projector=(8, 8)), batch=10, steps=4)


def features(images: ImageSet) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = toy_network()(images.normalized(slice(None)))
    return found


def test_target_monitor__equals_scikit_learn() -> None:
    monitor = TargetMonitor(KNOWN, HARD, neighbours=1, ridge_of_mean=1e-3)
    found = monitor.evaluate(toy_network(), Machine())
    known, asked = features(KNOWN).double().numpy(), features(HARD).double().numpy()
    center, labels = known.mean(0), KNOWN.labels
    assert labels is not None and HARD.labels is not None
    neighbour = KNeighborsClassifier(1, metric="cosine", algorithm="brute").fit(known, labels)
    ridge = 1e-3 * (((known - center) ** 2).sum() + len(known)) / len(known)
    ones = torch.ones(len(known), 1, dtype=torch.float64)
    linear = RidgeClassifier(alpha=ridge, fit_intercept=False)
    # one-hot targets in 0/1 against scikit-learn's -1/1 with a column of ones: same order of scores
    linear.fit(torch.cat([torch.from_numpy(known - center), ones], 1).numpy(), labels)
    tested = torch.cat([torch.from_numpy(asked - center), ones[: len(asked)]], 1).numpy()
    assert found["monitor_knn_percent"] == 100 * neighbour.score(asked, HARD.labels)
    assert found["monitor_linear_percent"] == 100 * linear.score(tested, HARD.labels)


def test_target_monitor__without_labels_gives_signs_of_collapse() -> None:
    found = TargetMonitor(KNOWN, ASKED.unlabelled()).evaluate(toy_network(), Machine())
    assert found.keys() == {"monitor_rank", "monitor_spread"}
    assert 1.5 < found["monitor_rank"] <= 5 and 0.01 < found["monitor_spread"] < 2


@pytest.mark.parametrize("images", [ASKED, ASKED.unlabelled()], ids=["labelled", "unlabelled"])
@pytest.mark.parametrize(("line", "rank"), [(0.0, r"0\.00"), (1.0, r"1\.0")])
def test_target_monitor__warns_of_a_collapse(images: ImageSet, line: float, rank: str) -> None:
    """To a point, where every image gets the bias, or to a line."""
    network = toy_network()
    with torch.no_grad():
        network.head.weight.copy_(line * network.head.weight[:1].expand_as(network.head.weight))
    with pytest.warns(DataWarning, match=f"collapsed: effective rank {rank}.* of 5"):
        TargetMonitor(KNOWN, images).evaluate(network, Machine())


@pytest.mark.parametrize("standardize", [False, True])
def test_target_monitor__changes_no_bit_of_the_result(tmp_path: Path, standardize: bool) -> None:
    training = replace(TRAINING, standardize=standardize)
    plain = train_target(KNOWN, training, folder=tmp_path / "plain")
    watched = train_target(
        KNOWN, training, folder=tmp_path / "watched", monitor=TargetMonitor(KNOWN, ASKED, 1)
    )
    assert watched.fingerprint == plain.fingerprint and watched.provenance == plain.provenance
    assert equal(weights(watched.module), weights(plain.module))
    assert logged(tmp_path / "plain", "loss") == logged(tmp_path / "watched", "loss")


def test_target_monitor__looks_every_so_many_steps(tmp_path: Path) -> None:
    monitor = TargetMonitor(KNOWN, ASKED, every_steps=2)
    train_target(KNOWN, TRAINING, folder=tmp_path, monitor=monitor)
    known = [percent is not None for percent in logged(tmp_path, "monitor_knn_percent")]
    assert known == [False, True, False, True]


def test_target_monitor__divergence_is_said() -> None:
    network = toy_network()
    nn.init.constant_(network.head.weight, float("nan"))
    with pytest.raises(NotFiniteError, match="representations of toy/test are not finite"):
        TargetMonitor(KNOWN, ASKED).evaluate(network, Machine())


def test_target_monitor__refuses_a_single_image() -> None:
    with pytest.raises(ConfigError, match="needs at least two"):
        TargetMonitor(KNOWN, ASKED.take(torch.tensor([0])))
