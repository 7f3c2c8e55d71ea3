"""Image sets and their normalizers."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from datastill.core.errors import DataError
from datastill.core.machine import Machine
from datastill.images import ImageSet, Normalizer


def random_images(count: int = 20, channels: int = 3, size: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (count, channels, size, size)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


@pytest.fixture
def labelled() -> ImageSet:
    images = random_images()
    labels = torch.arange(20) % 4
    return ImageSet("toy/train", images, Normalizer.of(images), labels, tuple("abcd"))


def test_normalizer__equals_direct_computation() -> None:
    images = random_images(5000, size=2)  # more than one block
    unit = images.double() / 255
    normalizer = Normalizer.of(images)
    expected = unit.mean((0, 2, 3)), unit.std((0, 2, 3), correction=0)
    torch.testing.assert_close(torch.tensor(normalizer.mean, dtype=torch.float64), expected[0])
    torch.testing.assert_close(torch.tensor(normalizer.std, dtype=torch.float64), expected[1])


def test_normalizer__cut_into_blocks_changes_no_digit() -> None:
    images = random_images(500)
    for length in (1, 7, 499):
        assert Normalizer.of_blocks(images.split(length)) == Normalizer.of(images)


def test_normalizer__constant_channel_has_the_std_of_one_grey_level() -> None:
    assert Normalizer.of(torch.full((2, 1, 3, 3), 7, dtype=torch.uint8)).std == (1 / 255,)


@given(
    mean=st.lists(st.floats(0, 1), min_size=3, max_size=3),
    std=st.lists(st.floats(0.004, 1), min_size=3, max_size=3),
)
@settings(max_examples=25, deadline=None)
def test_normalizer__inverse_undoes_it(mean: list[float], std: list[float]) -> None:
    normalizer = Normalizer(tuple(mean), tuple(std))
    unit = random_images().double() / 255
    torch.testing.assert_close(normalizer.inverse(normalizer(unit)), unit)


def test_image_set__unit_pixels_run_from_zero_to_one() -> None:
    images = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1)
    unit = ImageSet("toy", images, Normalizer((0.0,), (1.0,))).unit_pixels(slice(None))
    assert unit.dtype == torch.float32
    assert unit.flatten().tolist() == [0.0, 1.0]


def test_take__keeps_images_and_labels_together(labelled: ImageSet) -> None:
    taken = labelled.take(torch.tensor([5, 2]))
    assert torch.equal(taken.images, labelled.images[[5, 2]])
    assert taken.labels is not None and taken.labels.tolist() == [1, 2]
    assert taken.normalizer == labelled.normalizer


def test_split__parts_are_disjoint_and_complete(labelled: ImageSet) -> None:
    kept, held_out = labelled.split(0.25, seed=0)
    assert (len(kept), len(held_out)) == (15, 5)
    together = torch.cat([kept.images, held_out.images]).flatten(1)
    assert len(together.unique(dim=0)) == 20


def test_split__too_few_images_are_refused(labelled: ImageSet) -> None:
    with pytest.raises(DataError, match="too few to hold"):
        labelled.take(torch.tensor([0])).split(0.5, seed=0)


@pytest.mark.parametrize("room", [20 * 3 * 6 * 6, 20 * 3 * 6 * 6 - 1])
def test_pixels__stay_on_a_device_that_has_room_for_them(
    labelled: ImageSet, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device `meta` stands for a GPU: it has shapes and no numbers."""
    monkeypatch.setattr("datastill.images.fits_in_memory", lambda needed, device: needed <= room)
    copied = list[str]()
    to = torch.Tensor.to

    def noted(self: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        if self is labelled.images:
            copied.append(str(args[0]))
        return to(self, *args, **options)

    monkeypatch.setattr(torch.Tensor, "to", noted)
    for _ in range(2):
        found = labelled.pixels(torch.tensor([3, 0, 3]), "meta")
        assert (found.device.type, found.shape) == ("meta", (3, 3, 6, 6))
    assert copied == (["meta"] if room % 2 == 0 else [])


class Shifted(nn.Module):
    """Give the mean of each image and the size of its batch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x.mean((1, 2, 3)), torch.full((len(x),), float(len(x)))], dim=1)


def test_outputs__are_of_all_images_by_their_own_statistics(labelled: ImageSet) -> None:
    found = labelled.predict(Shifted().eval(), Machine(), batch=8)
    torch.testing.assert_close(found[:, 0], labelled.normalized(slice(None)).mean((1, 2, 3)))
    assert not found.requires_grad


def test_outputs__use_the_statistics_that_they_are_given(labelled: ImageSet) -> None:
    plain = Normalizer((0.0,) * 3, (1.0,) * 3)
    found = labelled.predict(Shifted().eval(), Machine(), normalizer=plain)
    torch.testing.assert_close(found[:, 0], labelled.unit_pixels(slice(None)).mean((1, 2, 3)))


@pytest.mark.parametrize(("training", "seen"), [(True, [8, 8, 4]), (False, [2] * 10)])
def test_outputs__of_a_network_in_training_mode_see_whole_batches(
    labelled: ImageSet, training: bool, seen: list[int]
) -> None:
    machine = Machine(chunk_pixels=2 * 36)
    found = labelled.predict(Shifted().train(training), machine, batch=8)
    assert found[:, 1].tolist() == [float(count) for count in seen for _ in range(count)]


def test_limit__draws_different_images_by_the_seed(labelled: ImageSet) -> None:
    assert labelled.limit(None, seed=0) is labelled and labelled.limit(21, seed=0) is labelled
    one, same, other = (labelled.limit(10, seed=seed) for seed in (1, 1, 2))
    assert len(one.images.flatten(1).unique(dim=0)) == 10
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_fingerprint__covers_pixels_and_labels_but_no_name(labelled: ImageSet) -> None:
    assert labelled.take(torch.arange(20), name="other").fingerprint == labelled.fingerprint
    assert labelled.unlabelled().labels is None and labelled.unlabelled().num_classes == 0
    images = labelled.images.clone()
    images[3, 1, 2, 2] ^= 1
    changed = replace(labelled, images=images)
    assert len({x.fingerprint for x in (labelled, labelled.unlabelled(), changed)}) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": torch.zeros(20, 3, 6, 6)}, "square uint8"),
        ({"images": torch.zeros(20, 3, 6, 5, dtype=torch.uint8)}, "square uint8"),
        ({"images": torch.zeros(3, 6, 6, dtype=torch.uint8)}, "square uint8"),
        ({"normalizer": Normalizer((0.0,), (1.0,))}, "has 1 channels, the images have 3"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, "20 images but 3 labels"),
    ],
    ids=["float", "not square", "no batch", "channels", "labels"],
)
def test_image_set__parts_that_do_not_fit_are_refused(
    labelled: ImageSet, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        replace(labelled, **changes)
