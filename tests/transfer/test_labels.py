"""Which training images keep their labels."""

from dataclasses import replace

import pytest
from factories import toy_images, toy_task

from datastill.core.errors import DataError
from datastill.images import ImageSet
from datastill.transfer._labels import check_enough, choose_labelled


def lacking(images: ImageSet, k: int) -> ImageSet:
    """The images without those of class k."""
    assert images.labels is not None
    return images.take((images.labels != k).nonzero()[:, 0])


def counts(labels: str, *, seed: int = 0, count: int = 24) -> list[int]:
    chosen = choose_labelled(toy_task(count), labels, seed)
    assert chosen.labels is not None
    return chosen.labels.bincount(minlength=4).tolist()


@pytest.mark.parametrize("k", [1, 3, 6])
def test_choose_labelled__takes_so_many_of_each_class(k: int) -> None:
    assert counts(f"{k}-per-class") == [k] * 4


@pytest.mark.parametrize(
    ("labels", "expected"),
    [("50%", [3] * 4), ("1%", [1] * 4), ("100%", [6] * 4), ("33.4%", [2] * 4)],
)
def test_choose_labelled__share_is_stratified(labels: str, expected: list[int]) -> None:
    assert counts(labels) == expected


def test_choose_labelled__share_of_unequal_classes_is_proportional() -> None:
    assert counts("50%", count=22) == [3, 3, 2, 2]  # of 6, 6, 5, 5


def test_choose_labelled__all_is_everything_in_order() -> None:
    data = toy_task()
    assert choose_labelled(data, "all", 0) is data.train


@pytest.mark.parametrize("labels", ["50%", "2-per-class"])
def test_choose_labelled__never_takes_an_image_twice(labels: str) -> None:
    data = toy_task()
    images = choose_labelled(data, labels, 0).images.flatten(1)
    assert len(images.unique(dim=0)) == len(images)


def test_choose_labelled__follows_the_seed() -> None:
    first, again, other = (
        choose_labelled(toy_task(), "2-per-class", s).fingerprint for s in (0, 0, 1)
    )
    assert first == again != other


@pytest.mark.parametrize("labels", ["50%", "1-per-class"])
def test_choose_labelled__missing_class_is_refused(labels: str) -> None:
    data = replace(toy_task(), train=lacking(toy_images(), 2))
    with pytest.raises(DataError, match="class class-2 has 0 training images"):
        choose_labelled(data, labels, 0)


def test_choose_labelled__more_than_all_is_refused() -> None:
    with pytest.raises(DataError, match="fewer than the 12 that labels=200% needs"):
        choose_labelled(toy_task(), "200%", 0)


@pytest.mark.parametrize(("labels", "count"), [("25%-at-random", 6), ("99%-at-random", 23)])
def test_choose_labelled__share_at_random_is_of_all_images(labels: str, count: int) -> None:
    chosen = choose_labelled(toy_task(), labels, 0)
    assert len(chosen) == count == len(chosen.images.flatten(1).unique(dim=0))


def test_check_enough__share_at_random_says_which_classes_go_without(
    capsys: pytest.CaptureFixture[str],
) -> None:
    check_enough(toy_task(), ("9%-at-random",))  # 2 of 24 images
    assert "are 2 images, and 2 of 4 classes have none of them" in capsys.readouterr().err


def test_choose_labelled__share_at_random_of_one_class_is_refused() -> None:
    with pytest.raises(DataError, match=r"are 1 of 24 training images.*choose a larger share"):
        choose_labelled(toy_task(), "5%-at-random", 0)
