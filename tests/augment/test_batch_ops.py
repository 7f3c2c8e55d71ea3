"""Image operations per image: against scipy, Pillow, slicing and the geometry of colors."""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from scipy.ndimage import gaussian_filter
from torch import Tensor

from datastill.augment.batch_ops import (
    BatchRandom,
    color_jitter,
    gaussian_blur,
    resample,
    rotation_matrix,
)
from datastill.core.rng import fork


def batch_random(
    count: int = 1000, *, siamese: bool = False, dtype: torch.dtype = torch.float32
) -> BatchRandom:
    return BatchRandom(fork(0, "draws"), torch.zeros(count, 1, 1, 1, dtype=dtype), siamese)


def test_batch_random__siamese_numbers_ignore_the_count() -> None:
    few, many = batch_random(2, siamese=True), batch_random(50, siamese=True)
    assert few.uniform(0, 1)[0] == many.uniform(0, 1)[0]


def test_batch_random__stream_ignores_the_type() -> None:
    single, double = batch_random().uniform(0, 1), batch_random(dtype=torch.float64).uniform(0, 1)
    assert double.dtype == torch.float64 and torch.equal(single, double.float())


def test_gaussian_blur__equals_scipy_for_each_image() -> None:
    x = torch.rand(3, 2, 9, 11, generator=fork(0, "x"), dtype=torch.float64)
    sigma = torch.tensor([0.1, 0.8, 2.0], dtype=torch.float64)
    for image, ours, width in zip(
        x, gaussian_blur(x, sigma, radius=4), sigma.tolist(), strict=True
    ):
        expected = gaussian_filter(image.numpy(), width, mode="mirror", radius=4, axes=(1, 2))
        torch.testing.assert_close(ours, torch.from_numpy(expected))


def some_images() -> torch.Tensor:
    return torch.rand(2, 3, 6, 6, generator=fork(0, "x"), dtype=torch.float64)


def identity() -> torch.Tensor:
    return torch.eye(2, dtype=torch.float64).expand(2, 2, 2)


def test_resample__identity_changes_nothing() -> None:
    for corners in (False, True):
        out = resample(some_images(), identity(), padding_mode="zeros", align_corners=corners)
        torch.testing.assert_close(out, some_images())


def test_resample__quarter_turn_equals_rot90() -> None:
    quarter = rotation_matrix(torch.tensor([math.pi / 2, -math.pi / 2], dtype=torch.float64))
    out = resample(some_images(), quarter, padding_mode="zeros")
    torch.testing.assert_close(out[0], some_images()[0].rot90(1, (1, 2)))
    torch.testing.assert_close(out[1], some_images()[1].rot90(-1, (1, 2)))


def test_resample__shift_by_whole_pixels_equals_slicing() -> None:
    two_pixels = 2 * 2 / 6  # the image is 2 wide
    shift = torch.tensor([[two_pixels, 0.0], [0.0, two_pixels]], dtype=torch.float64)
    x = some_images()
    out = resample(x, identity(), shift, padding_mode="zeros")
    torch.testing.assert_close(out[0, :, :, :4], x[0, :, :, 2:])
    torch.testing.assert_close(out[1, :, :4], x[1, :, 2:])
    assert out[0, :, :, 4:].abs().max() < 1e-12


def test_resample__border_repeats_the_outer_pixels() -> None:
    x = some_images()
    shift = torch.tensor([[2 * 2 / 6, 0.0]] * 2, dtype=torch.float64)
    out = resample(x, identity(), shift, padding_mode="border")
    torch.testing.assert_close(out[:, :, :, 4:], x[:, :, :, 5:].expand(-1, -1, -1, 2))


def soft_bytes(channels: int = 3) -> Tensor:
    """One image without extremes, so that nothing is clamped on the way."""
    shape = (channels, 10, 10)
    return torch.randint(90, 150, shape, generator=fork(0, "image")).to(torch.uint8)


def jittered(x: Tensor, **changes: float) -> Tensor:
    neutral = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue_radians": 0.0}
    amounts = {name: x.new_full((len(x),), changes.get(name, v)) for name, v in neutral.items()}
    return color_jitter(x, **amounts)


@pytest.mark.parametrize("factor", [0.7, 1.3])
@pytest.mark.parametrize(
    ("name", "enhance"),
    [
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("saturation", ImageEnhance.Color),
    ],
)
def test_color_jitter__equals_pillow(name: str, enhance: type, factor: float) -> None:
    image = soft_bytes()
    expected = enhance(Image.fromarray(image.permute(1, 2, 0).numpy())).enhance(factor)
    ours = jittered(image[None].float() / 255, **{name: factor})[0].permute(1, 2, 0) * 255
    assert np.abs(ours.numpy() - np.asarray(expected)).max() <= 1.5  # Pillow rounds down twice


def test_color_jitter__one_call_equals_one_operation_after_the_other() -> None:
    x = soft_bytes()[None].float() / 255
    changes = {"brightness": 1.2, "contrast": 0.7, "saturation": 1.4, "hue_radians": 0.3}
    expected = x
    for name, amount in changes.items():
        expected = jittered(expected, **{name: amount})
    torch.testing.assert_close(jittered(x, **changes), expected)


def test_color_jitter__hue_keeps_luma() -> None:
    x = soft_bytes()[None].float() / 255
    luma = torch.tensor([0.299, 0.587, 0.114])
    before, after = (torch.einsum("c,bchw->bhw", luma, i) for i in (x, jittered(x, hue_radians=1)))
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize(("start", "end"), [(0, 1), (1, 2), (2, 0)])
def test_color_jitter__a_third_of_a_turn_leads_to_the_next_primary_color(
    start: int, end: int
) -> None:
    x = torch.zeros(1, 3, 1, 1).index_fill_(1, torch.tensor([start]), 1.0)
    assert int(jittered(x, hue_radians=2 * math.pi / 3).flatten().argmax()) == end


def test_color_jitter__treats_every_image_by_its_own_amount() -> None:
    x = (soft_bytes()[None].float() / 255).expand(3, -1, -1, -1)
    one, amounts = torch.ones(3), torch.tensor([0.5, 1.0, 1.5])
    out = color_jitter(x, brightness=one, contrast=amounts, saturation=one, hue_radians=one * 0)
    for image, amount in zip(out, amounts.tolist(), strict=True):
        torch.testing.assert_close(image[None], jittered(x[:1], contrast=amount))
