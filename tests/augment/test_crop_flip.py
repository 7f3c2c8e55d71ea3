"""CropFlip against slicing of single images."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from datastill.augment.crop_flip import CropFlip
from datastill.core.errors import ConfigError, DataError
from datastill.core.rng import fork


def some_bytes(count: int = 5, channels: int = 3, height: int = 6, width: int = 6) -> Tensor:
    shape = (count, channels, height, width)
    return torch.randint(1, 256, shape, generator=fork(0, "images")).to(torch.uint8)


def by_slicing(image: np.ndarray, top: int, left: int, flip: bool, padding: int) -> np.ndarray:
    _, height, width = image.shape
    padded = np.pad(image, [(0, 0), (padding, padding), (padding, padding)])
    crop = padded[:, top : top + height, left : left + width]
    return crop[:, :, ::-1] if flip else crop


@pytest.mark.parametrize("spec", [CropFlip(2), CropFlip(1, flip=False), CropFlip(0)], ids=repr)
@pytest.mark.parametrize(("height", "width"), [(6, 6), (5, 7)])
def test_crop_flip__all_views_are_all_slices(spec: CropFlip, height: int, width: int) -> None:
    image = some_bytes(1, 3, height, width)
    seen = spec(image.expand(spec.views, -1, -1, -1), torch.arange(spec.views))
    offsets = range(2 * spec.padding + 1)
    expected = Counter(
        by_slicing(image[0].numpy(), top, left, flip, spec.padding).tobytes()
        for top in offsets
        for left in offsets
        for flip in ([False, True] if spec.flip else [False])
    )
    assert Counter(view.numpy().tobytes() for view in seen) == expected


def test_crop_flip__equals_plain_slicing() -> None:
    images, spec = some_bytes(4), CropFlip(2)
    view = torch.tensor([0, 1, spec.identity + 1, spec.views - 1])
    places = [(0, 0, False), (0, 0, True), (2, 2, True), (4, 4, True)]
    expected = [by_slicing(x.numpy(), *at, 2) for x, at in zip(images, places, strict=True)]
    assert np.array_equal(spec(images, view).numpy(), np.stack(expected))


@pytest.mark.parametrize("spec", [CropFlip(), CropFlip(3, flip=False), CropFlip(0)], ids=repr)
def test_crop_flip__identity_changes_nothing(spec: CropFlip) -> None:
    images = some_bytes()
    assert torch.equal(spec(images, torch.full((5,), spec.identity)), images)


def test_crop_flip__bytes_and_floats_see_the_same() -> None:
    images, spec = some_bytes(), CropFlip()
    view = spec.draw(5, fork(0, "views"))
    assert torch.equal(spec(images, view).float(), spec(images.float(), view))
    assert spec(images, view).dtype == torch.uint8


def test_crop_flip__computes_where_the_images_are() -> None:
    """The meta device refuses to be mixed with CPU tensors, as a GPU does."""
    out = CropFlip()(some_bytes().to("meta"), torch.zeros(5, dtype=torch.int64))
    assert out.device.type == "meta" and out.shape == (5, 3, 6, 6)


def test_crop_flip__gradient_of_pixels() -> None:
    images = torch.rand(2, 1, 3, 3, dtype=torch.float64, generator=fork(0, "x")).requires_grad_()
    view = torch.tensor([0, 16])
    assert torch.autograd.gradcheck(lambda x: CropFlip(1)(x, view), images)


def test_crop_flip__draws_every_view() -> None:
    spec = CropFlip(1)
    assert set(spec.draw(1000, fork(0, "views")).tolist()) == set(range(18))


def test_crop_flip__draws_follow_the_generator_alone() -> None:
    before = torch.get_rng_state()
    first, again = (CropFlip().draw(50, fork(3, "views")) for _ in range(2))
    assert torch.equal(first, again) and torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("number", [-1, 162])
def test_crop_flip__refuses_views_that_do_not_exist(number: int) -> None:
    with pytest.raises(DataError, match="views 0 to 161"):
        CropFlip()(some_bytes(1), torch.tensor([number]))


def test_crop_flip__refuses_one_view_for_many_images() -> None:
    with pytest.raises(DataError, match=r"views \(B,\)"):
        CropFlip()(some_bytes(), torch.tensor([0]))


def test_crop_flip__refuses_negative_padding() -> None:
    with pytest.raises(ConfigError, match="padding=-1"):
        CropFlip(padding=-1)
