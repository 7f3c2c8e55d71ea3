"""K-means and herding: against loops, per class and over the whole source."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from factories import NETWORK, toy_images, toy_problem, toy_target
from sklearn.cluster import KMeans as Lloyd

from datastill.core.errors import ConfigError, NotFiniteError
from datastill.core.rng import derive, fork
from datastill.distill import distill
from datastill.methods.full_source import FullSource
from datastill.methods.herding import Herding, herding_indices
from datastill.methods.k_means import KMeans
from datastill.methods.method import Method
from datastill.methods.random_subset import RandomSubset
from datastill.problem import Problem

EACH: list[type[Herding] | type[KMeans]] = [Herding, KMeans]
each = pytest.mark.parametrize("kind", EACH)


def chosen(method: Method[Any], count: int) -> torch.Tensor:
    return method.init(toy_problem(count)).chosen


@each
@pytest.mark.parametrize("targets", ["representation", "class-label"])
@pytest.mark.parametrize("space", ["representation", "pixels"])
def test_selection__images_are_different(kind: Any, targets: str, space: str) -> None:
    found = chosen(kind(targets=targets, space=space), 10)
    assert len(found) == 10 and len(found.unique()) == 10


@each
def test_selection__with_labels_every_class_gives_as_many(kind: Any) -> None:
    images = toy_images()
    assert images.labels is not None
    labels = images.labels[chosen(kind(targets="class-label"), 10)]
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3]


@each
def test_selection__class_with_too_few_images_is_refused(kind: Any) -> None:
    images = toy_images().take(torch.tensor([0, 1, 2, 3, 4, 8, 12]))
    with pytest.raises(ConfigError, match=r"2 images of each class .* class-1 of toy/train has 1"):
        distill(kind(targets="class-label"), toy_problem(7, images=images))


@each
def test_selection__all_images_in_equal_numbers_are_the_source(kind: Any) -> None:
    assert chosen(kind(), 24).sort().values.tolist() == list(range(24))


@each
@pytest.mark.parametrize(
    ("targets", "space", "target", "labels"),
    [
        ("representation", "pixels", True, False),
        ("class-label", "pixels", False, True),
        ("class-label", "representation", True, True),
    ],
)
def test_selection__needs_what_it_uses(
    kind: Any, targets: str, space: str, target: bool, labels: bool
) -> None:
    method = kind(targets=targets, space=space)
    assert (method.needs_target, method.needs_labels) == (target, labels)


@each
@pytest.mark.parametrize("targets", ["representation", "class-label"])
def test_selection__representations_that_are_not_finite_are_refused(
    kind: Any, targets: str
) -> None:
    images = toy_images()
    broken = replace(toy_target(images), offset=torch.tensor([0.0, 0.0, torch.nan, 0.0, 0.0]))
    with pytest.raises(NotFiniteError, match=r"toy/train .*not finite; .*--method.space pixels"):
        distill(kind(targets=targets), Problem(images, broken, 8, network=NETWORK))


@pytest.mark.parametrize("kind", [*EACH, RandomSubset, FullSource])
def test_real_images__unknown_targets_are_refused(kind: Any) -> None:
    with pytest.raises(ConfigError, match="'labels': expected representation or class-label"):
        kind(targets="labels")


def test_k_means__takes_the_image_nearest_to_each_centre() -> None:
    problem = toy_problem(5)
    x = problem.represent(torch.arange(24)).numpy()
    lloyd = Lloyd(5, n_init=1, random_state=derive(0, "k-means", 0) % 2**32).fit(x)
    found = KMeans().init(problem).chosen.tolist()
    for k, centre in enumerate(lloyd.cluster_centers_):
        distances = ((x - centre) ** 2).sum(1)
        members = [i for i in range(24) if lloyd.labels_[i] == k]
        assert found[k] in members  # of two members both are as near, but for rounding
        assert distances[found[k]] == pytest.approx(min(distances[members]), rel=1e-5)


def test_k_means__equal_images_are_told_apart(recwarn: pytest.WarningsRecorder) -> None:
    """More clusters than different images: the empty ones take images that are left."""
    images = toy_images().take(torch.tensor([0] * 6 + [1] * 6))
    with pytest.warns(UserWarning, match="distinct clusters"):
        found = KMeans().init(toy_problem(5, images=images)).chosen
    assert len(found.unique()) == 5


def test_herd__equals_trying_all_images() -> None:
    x = torch.randn(12, 3, generator=fork(0, "x")).double()
    picked: list[int] = []
    for t in range(7):
        rest = [i for i in range(12) if i not in picked]
        means = {i: x[[*picked, i]].mean(0) for i in rest}
        picked.append(min(rest, key=lambda i: float((means[i] - x.mean(0)).norm())))
        assert len(picked) == t + 1
    assert herding_indices(x, 7).tolist() == picked
