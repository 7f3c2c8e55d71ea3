"""Kernels of wide ReLU networks against pair by pair sums, finite networks and differences."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from datastill.core.rng import fork
from datastill.ops.kernels import InfiniteWidthMLP, arc_cosine

INPUTS = 5  # P
Kernel = Callable[[InfiniteWidthMLP, Tensor, Tensor], Tensor]
kernels = pytest.mark.parametrize(
    "kernel", [InfiniteWidthMLP.nngp, InfiniteWidthMLP.ntk], ids=["nngp", "ntk"]
)
depths = pytest.mark.parametrize("depth", [1, 2, 4])


def rows(count: int, *, seed: int = 0) -> Tensor:
    generator = fork(seed, "kernels", count)
    return torch.randn(count, INPUTS, dtype=torch.float64, generator=generator)


def of_pair(mlp: InfiniteWidthMLP, a: list[float], b: list[float]) -> tuple[float, float]:
    """(NNGP, NTK) of two inputs: moments and angle of each layer, one number at a time."""
    w, c, p = mlp.weight_variance, mlp.bias_variance, len(a)
    aa = w * sum(s * s for s in a) / p + c
    bb = w * sum(t * t for t in b) / p + c
    ab = w * sum(s * t for s, t in zip(a, b, strict=True)) / p + c
    tangent = ab
    for _ in range(mlp.depth):
        length = math.sqrt(aa * bb)
        theta = math.acos(ab / length)
        both_active = (math.pi - theta) / (2 * math.pi)
        product = length * (math.sin(theta) + (math.pi - theta) * math.cos(theta)) / (2 * math.pi)
        ab = w * product + c
        tangent = ab + w * both_active * tangent
        aa, bb = w * aa / 2 + c, w * bb / 2 + c
    return ab, tangent


def finite_network(
    mlp: InfiniteWidthMLP, x: Tensor, *, width: int, seed: int
) -> tuple[Tensor, Tensor]:
    """(NNGP, NTK) of one random network in the NTK parameterization, its last layer wide too."""
    generator = fork(seed, "finite")
    weights, biases, h = [], [], x.float()
    for _ in range(mlp.depth + 1):
        weights.append(torch.randn(width, h.shape[1], generator=generator).requires_grad_())
        biases.append(torch.randn(width, generator=generator).requires_grad_())
        scale = math.sqrt(mlp.weight_variance / h.shape[1])
        z = scale * h @ weights[-1].T + math.sqrt(mlp.bias_variance) * biases[-1]
        h = z.relu()
    parameters = [*weights, *biases]  # standard normal: their gradients hold both variances
    gradients = [torch.autograd.grad(f, parameters, retain_graph=True) for f in z[:, 0]]
    stacked = torch.stack([torch.cat([g.flatten() for g in of_one]) for of_one in gradients])
    return (z @ z.T / width).detach().double(), (stacked @ stacked.T).double()


def test_arc_cosine__derivative_of_order_1_is_order_0() -> None:
    cosine = torch.tensor([-1, -0.999999, -0.2, 0.6, 0.999999, 1], dtype=torch.float64)
    cosine.requires_grad_()
    order_0, order_1 = arc_cosine(cosine)
    slope = torch.autograd.grad(order_1.sum(), cosine)[0]
    torch.testing.assert_close(slope, order_0.detach(), atol=1e-12, rtol=0)


@depths
@pytest.mark.parametrize(("weights", "biases"), [(2.0, 0.01), (1.3, 0.0), (1.0, 0.5)])
def test_infinite_width_mlp__equals_sums_pair_by_pair(
    depth: int, weights: float, biases: float
) -> None:
    mlp, x_a, x_b = InfiniteWidthMLP(depth, weights, biases), rows(4), rows(3)
    pairs = [[of_pair(mlp, a, b) for b in x_b.tolist()] for a in x_a.tolist()]
    expected = torch.tensor(pairs, dtype=torch.float64)
    torch.testing.assert_close(mlp.nngp(x_a, x_b), expected[..., 0], atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(mlp.ntk(x_a, x_b), expected[..., 1], atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("depth", [1, 2])
def test_infinite_width_mlp__is_the_limit_of_finite_networks(depth: int) -> None:
    mlp, x, networks = InfiniteWidthMLP(depth, 1.7, 0.3), rows(3), 6
    actual = [finite_network(mlp, x, width=1500, seed=seed) for seed in range(networks)]
    for kernel, sampled in zip((mlp.nngp, mlp.ntk), zip(*actual, strict=True), strict=True):
        expected, mean = kernel(x, x), torch.stack(sampled).mean(0)
        error = (mean - expected).abs().max() / expected.diagonal().mean()
        assert error < 0.05


@depths
def test_infinite_width_mlp__diagonal_is_exact_in_spite_of_rounding(depth: int) -> None:
    x = rows(50)
    square = x.square().mean(1)  # with variance 2 and no biases, every layer keeps it
    mlp = InfiniteWidthMLP(depth)
    torch.testing.assert_close(mlp.nngp(x, x).diagonal(), 2 * square, atol=0, rtol=1e-13)
    expected = 2 * (depth + 1) * square
    torch.testing.assert_close(mlp.ntk(x, x).diagonal(), expected, atol=0, rtol=1e-13)


@kernels
@depths
def test_infinite_width_mlp__gradient_of_two_sets(kernel: Kernel, depth: int) -> None:
    mlp = InfiniteWidthMLP(depth, 1.5, 0.2)
    inputs = [rows(3).requires_grad_(), rows(2).requires_grad_()]
    assert torch.autograd.gradcheck(lambda a, b: kernel(mlp, a, b), inputs)


@kernels
@depths
def test_infinite_width_mlp__gradient_of_a_set_with_itself(kernel: Kernel, depth: int) -> None:
    """The diagonal included, where the angle is 0."""
    mlp = InfiniteWidthMLP(depth, 1.5, 0.2)
    assert torch.autograd.gradcheck(lambda x: kernel(mlp, x, x), [rows(4).requires_grad_()])


@kernels
@pytest.mark.parametrize("side", [1.0, -1.0])
def test_infinite_width_mlp__gradient_at_parallel_inputs_is_the_mean_of_both_sides(
    kernel: Kernel, side: float
) -> None:
    mlp, x_b = InfiniteWidthMLP(2), rows(1)
    x_a = (side * x_b).requires_grad_()
    actual = torch.autograd.grad(kernel(mlp, x_a, x_b).sum(), x_a)[0]
    step = 1e-4 * rows(1, seed=1)
    forwards, backwards = (kernel(mlp, x_a.detach() + s, x_b) for s in (step, -step))
    expected = (forwards - backwards).sum() / 2
    assert float((actual * step).sum()) == pytest.approx(float(expected), abs=1e-9)


@kernels
@pytest.mark.parametrize("biases", [0.0, 0.1])
def test_infinite_width_mlp__black_inputs_are_finite_with_their_gradients(
    kernel: Kernel, biases: float
) -> None:
    x = torch.cat([torch.zeros(2, INPUTS, dtype=torch.float64), rows(2)]).requires_grad_()
    actual = kernel(InfiniteWidthMLP(2, 2.0, biases), x, x)
    gradient = torch.autograd.grad(actual.sum(), x)[0]
    assert actual.isfinite().all() and gradient.isfinite().all()
    assert biases or actual[:2].abs().max() < 1e-40
