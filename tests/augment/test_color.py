"""Recoloring against Pillow's enhancers and the geometry of colors."""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from datastill.augment._color import recolor
from datastill.ground.rng import fork


def soft_bytes(channels: int = 3) -> Tensor:
    """One image without extremes, so that nothing is clamped on the way."""
    shape = (channels, 10, 10)
    return torch.randint(90, 150, shape, generator=fork(0, "image")).to(torch.uint8)


def recolored(x: Tensor, **changes: float) -> Tensor:
    neutral = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue_radians": 0.0}
    amounts = {name: x.new_full((len(x),), changes.get(name, v)) for name, v in neutral.items()}
    return recolor(x, **amounts)


@pytest.mark.parametrize("factor", [0.7, 1.3])
@pytest.mark.parametrize(
    ("name", "enhance"),
    [
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("saturation", ImageEnhance.Color),
    ],
)
def test_recolor__equals_pillow(name: str, enhance: type, factor: float) -> None:
    image = soft_bytes()
    expected = enhance(Image.fromarray(image.permute(1, 2, 0).numpy())).enhance(factor)
    ours = recolored(image[None].float() / 255, **{name: factor})[0].permute(1, 2, 0) * 255
    assert np.abs(ours.numpy() - np.asarray(expected)).max() <= 1.5  # Pillow rounds down twice


def test_recolor__one_call_equals_one_operation_after_the_other() -> None:
    x = soft_bytes()[None].float() / 255
    changes = {"brightness": 1.2, "contrast": 0.7, "saturation": 1.4, "hue_radians": 0.3}
    expected = x
    for name, amount in changes.items():
        expected = recolored(expected, **{name: amount})
    torch.testing.assert_close(recolored(x, **changes), expected)


def test_recolor__one_channel_contrast_is_about_the_mean() -> None:
    x = soft_bytes(1)[None].float() / 255
    expected = x.mean() + 0.6 * (x - x.mean())
    torch.testing.assert_close(recolored(x, contrast=0.6), expected)


def test_recolor__hue_keeps_luma() -> None:
    x = soft_bytes()[None].float() / 255
    luma = torch.tensor([0.299, 0.587, 0.114])
    before, after = (torch.einsum("c,bchw->bhw", luma, i) for i in (x, recolored(x, hue_radians=1)))
    torch.testing.assert_close(after, before)


def test_recolor__hue_leaves_greys_alone() -> None:
    x = torch.linspace(0, 1, 16).view(1, 1, 4, 4).expand(-1, 3, -1, -1)
    torch.testing.assert_close(recolored(x, hue_radians=1.0), x)


@pytest.mark.parametrize(("start", "end"), [(0, 1), (1, 2), (2, 0)])
def test_recolor__a_third_of_a_turn_leads_to_the_next_primary_color(start: int, end: int) -> None:
    x = torch.zeros(1, 3, 1, 1).index_fill_(1, torch.tensor([start]), 1.0)
    assert int(recolored(x, hue_radians=2 * math.pi / 3).flatten().argmax()) == end


def test_recolor__whole_turn_changes_nothing() -> None:
    x = soft_bytes()[None].float() / 255
    torch.testing.assert_close(recolored(x, hue_radians=2 * math.pi), x)


def test_recolor__treats_every_image_by_its_own_amount() -> None:
    x = (soft_bytes()[None].float() / 255).expand(3, -1, -1, -1)
    one, amounts = torch.ones(3), torch.tensor([0.5, 1.0, 1.5])
    out = recolor(x, brightness=one, contrast=amounts, saturation=one, hue_radians=one * 0)
    for image, amount in zip(out, amounts.tolist(), strict=True):
        torch.testing.assert_close(image[None], recolored(x[:1], contrast=amount))
