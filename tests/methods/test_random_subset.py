"""Balanced random subsets: as many of each class."""

from dataclasses import replace

import pytest
import torch
from factories import toy_images, toy_problem

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
