"""Resampling at maps whose result is known exactly."""

import math

import torch

from datastill.augment._resample import resample, rotation
from datastill.ground.rng import fork


def some_images() -> torch.Tensor:
    return torch.rand(2, 3, 6, 6, generator=fork(0, "x"), dtype=torch.float64)


def identity() -> torch.Tensor:
    return torch.eye(2, dtype=torch.float64).expand(2, 2, 2)


def test_resample__identity_changes_nothing() -> None:
    for corners in (False, True):
        out = resample(some_images(), identity(), outside="zeros", corners_at_one=corners)
        torch.testing.assert_close(out, some_images())


def test_resample__quarter_turn_equals_rot90() -> None:
    quarter = rotation(torch.tensor([math.pi / 2, -math.pi / 2], dtype=torch.float64))
    out = resample(some_images(), quarter, outside="zeros")
    torch.testing.assert_close(out[0], some_images()[0].rot90(1, (1, 2)))
    torch.testing.assert_close(out[1], some_images()[1].rot90(-1, (1, 2)))


def test_resample__shift_by_whole_pixels_equals_slicing() -> None:
    two_pixels = 2 * 2 / 6  # the image is 2 wide
    shift = torch.tensor([[two_pixels, 0.0], [0.0, two_pixels]], dtype=torch.float64)
    x = some_images()
    out = resample(x, identity(), shift, outside="zeros")
    torch.testing.assert_close(out[0, :, :, :4], x[0, :, :, 2:])
    torch.testing.assert_close(out[1, :, :4], x[1, :, 2:])
    assert out[0, :, :, 4:].abs().max() < 1e-12


def test_resample__border_repeats_the_outer_pixels() -> None:
    x = some_images()
    shift = torch.tensor([[2 * 2 / 6, 0.0]] * 2, dtype=torch.float64)
    out = resample(x, identity(), shift, outside="border")
    torch.testing.assert_close(out[:, :, :, 4:], x[:, :, :, 5:].expand(-1, -1, -1, 2))
