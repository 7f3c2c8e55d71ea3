"""Blur against scipy."""

import torch
from scipy.ndimage import gaussian_filter

from datastill.augment._blur import blur
from datastill.ground.rng import fork


def test_blur__equals_scipy_for_each_image() -> None:
    x = torch.rand(3, 2, 9, 11, generator=fork(0, "x"), dtype=torch.float64)
    sigma = torch.tensor([0.1, 0.8, 2.0], dtype=torch.float64)
    for image, ours, width in zip(x, blur(x, sigma, radius=4), sigma.tolist(), strict=True):
        expected = gaussian_filter(image.numpy(), width, mode="mirror", radius=4, axes=(1, 2))
        torch.testing.assert_close(ours, torch.from_numpy(expected))


def test_blur__keeps_a_plain_image() -> None:
    x = torch.full((2, 1, 6, 6), 0.3)
    torch.testing.assert_close(blur(x, torch.tensor([0.5, 2.0]), radius=4), x)
