"""Balanced random subsets: as many of each class, and the unbalanced draw unchanged."""

from dataclasses import replace

import pytest
import torch
from factories import toy_images, toy_problem

from datastill.core.errors import ConfigError
from datastill.core.rng import fork
from datastill.distill import distill
from datastill.images import ImageSet
from datastill.methods.random_subset import RandomSubset

BALANCED = RandomSubset(targets="class-label", balanced=True)


def skewed() -> ImageSet:
    """Classes of 12, 6, 4 and 2 images, in no order."""
    images = toy_images()
    labels = torch.arange(4).repeat_interleave(torch.tensor([12, 6, 4, 2]))
    return replace(images, labels=labels[torch.randperm(24, generator=fork(0, "skewed"))])


@pytest.mark.parametrize(
    ("count", "each"),
    [(4, [1, 1, 1, 1]), (8, [2, 2, 2, 2]), (11, [3, 3, 3, 2]), (24, [12, 6, 4, 2])],
)
def test_balanced__every_class_gets_as_many_until_it_is_used_up(
    count: int, each: list[int]
) -> None:
    for seed in range(5):
        found = distill(BALANCED, toy_problem(count, seed=seed, images=skewed()))
        assert found.targets.bincount(minlength=4).tolist() == each


def test_balanced__what_is_left_over_goes_to_classes_at_random() -> None:
    problems = (toy_problem(6, seed=seed) for seed in range(8))
    counts = {tuple(distill(BALANCED, p).targets.bincount(minlength=4).tolist()) for p in problems}
    assert len(counts) > 1 and {tuple(sorted(found)) for found in counts} == {(1, 1, 2, 2)}


def test_balanced__images_differ_and_have_their_own_labels() -> None:
    images = skewed()
    state = BALANCED.init(toy_problem(8, images=images))
    assert len(set(state.chosen.tolist())) == 8
    found = distill(BALANCED, toy_problem(8, images=images))
    assert images.labels is not None and torch.equal(found.targets, images.labels[state.chosen])
    assert torch.equal(found.images, images.unit_pixels(state.chosen))


def test_balanced__first_of_each_class_is_the_first_of_the_unbalanced_order() -> None:
    images = skewed()
    assert images.labels is not None
    whole = RandomSubset().init(toy_problem(24, images=images)).chosen
    firsts = {int(whole[images.labels[whole] == k][0]) for k in range(4)}
    assert set(BALANCED.init(toy_problem(4, images=images)).chosen.tolist()) == firsts


def test_unbalanced__draw_is_a_plain_permutation() -> None:
    drawn = RandomSubset(targets="class-label").init(toy_problem(7, seed=3)).chosen
    plain = torch.randperm(24, generator=fork(3, "random-subset"))[:7]
    assert torch.equal(drawn, plain)


def test_balanced__needs_labels_even_for_representations() -> None:
    unlabelled = toy_problem(images=toy_images().unlabelled())
    with pytest.raises(ConfigError, match="random-subset needs labels, and toy/train has none"):
        distill(RandomSubset(balanced=True), unlabelled)
