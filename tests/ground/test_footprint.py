"""Footprint: what work allocates at a tiny size, replayed at a large one."""

import torch
import torch.nn.functional as F
from torch import Tensor

from datastill.ground.footprint import PRIMES, footprint, unused_primes

TINY = {"batch": 5, "count": 7}


def kernel(batch: int, count: int) -> Tensor:
    """Three tensors of float32: two of features, and the kernel, which is returned."""
    a, b = torch.ones(batch, 3), torch.ones(count, 3)
    return a @ b.T


def test_footprint__grows_with_products_of_sizes() -> None:
    done, _ = footprint(lambda: kernel(5, 7), TINY)
    grown = {"batch": 10.0, "count": 100.0}  # to 50 and 700
    assert done.left(grown) == 4 * 50 * 700
    assert done.peak(grown) == 4 * (50 * 700 + 50 * 3 + 700 * 3)


def test_footprint__of_the_tiny_work_is_exact() -> None:
    done, result = footprint(lambda: kernel(5, 7), TINY)
    assert done.left(dict.fromkeys(TINY, 1.0)) == result.nbytes


def test_footprint__finds_the_larger_of_two_moments() -> None:
    """At the tiny size the weights are most, at the large one the batch."""

    def work() -> None:
        torch.ones(1003)
        torch.ones(5, 8)

    done, _ = footprint(work, TINY)
    assert done.peak({"batch": 1.0, "count": 1.0}) == 4012
    assert done.peak({"batch": 100.0, "count": 1.0}) == 16_000


def test_footprint__sees_what_is_kept_for_the_backward_pass() -> None:
    weight = torch.ones(4, 3, 3, 3, requires_grad=True)

    def work() -> None:
        x = torch.ones(5, 3, 8, 8)
        y = F.conv2d(x, weight, padding=1).relu()  # kept, with x
        z = y.exp()  # kept
        z.sum().backward()

    done, _ = footprint(work, TINY)
    image, feature = 4 * 3 * 64, 4 * 4 * 64
    peak = done.peak({"batch": 200.0, "count": 1.0}) / 1000
    assert image + 3 * feature <= peak <= image + 5 * feature


def test_footprint__counts_a_view_once_and_what_was_there_never() -> None:
    there = torch.ones(5, 100)
    done, _ = footprint(lambda: (there.flatten(), there.add_(1), torch.ones(5, 2).flatten()), TINY)
    assert done.peak(dict.fromkeys(TINY, 1.0)) == 40


def test_footprint__does_not_take_channels_for_images() -> None:
    """Only the first dimension of images counts images."""
    done, _ = footprint(lambda: torch.ones(3, 5, 5, 5), TINY)
    assert done.peak({"batch": 10.0, "count": 1.0}) == 4 * 3 * 125


def test_footprint__sees_the_images_of_an_instance_norm() -> None:
    """It views a batch as the channels of one image."""
    done, kept = footprint(lambda: torch.ones(1, 5 * 3, 4, 4), TINY)
    assert done.left({"batch": 10.0, "count": 1.0}) == 10 * kept.nbytes


def test_unused_primes__divide_no_size_and_no_features_with_a_bias() -> None:
    assert list(unused_primes({10, 48}))[:2] == [13, 17]  # 48 + 1 = 7 · 7, 10 + 1 = 11
    assert list(unused_primes(set())) == list(PRIMES)
