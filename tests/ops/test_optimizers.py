"""Optimizers against plain formulas, and exact resuming."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from datastill.ops.optimizers import Lamb, Lars, OptimizerSpec


def lars_by_hand(weight: Tensor, gradients: list[Tensor], spec: Lars) -> Tensor:
    """The published update of one weight matrix, in floats of Python."""
    rows, columns = weight.shape
    w = weight.flatten().tolist()
    m = [0.0] * len(w)
    for gradient in gradients:
        d = [g + spec.weight_decay * a for g, a in zip(gradient.flatten().tolist(), w, strict=True)]
        ratio = spec.trust * sum(a * a for a in w) ** 0.5 / sum(a * a for a in d) ** 0.5
        m = [spec.momentum * a + ratio * b for a, b in zip(m, d, strict=True)]
        w = [a - spec.lr * b for a, b in zip(w, m, strict=True)]
    return torch.tensor(w, dtype=weight.dtype).view(rows, columns)


def test_lars__bias_is_neither_adapted_nor_decayed() -> None:
    bias = torch.full((3,), 2.0, requires_grad=True)
    optimizer = Lars(lr=0.5, weight_decay=10.0, trust=1e-9).make([bias])
    bias.grad = torch.ones(3)
    optimizer.step()
    assert torch.equal(bias.detach(), torch.full((3,), 1.5))


def test_lars__zero_weights_move_at_the_plain_rate() -> None:
    weight = torch.zeros(2, 2, requires_grad=True)
    optimizer = Lars(lr=0.5).make([weight])
    weight.grad = torch.ones(2, 2)
    optimizer.step()
    assert torch.equal(weight.detach(), torch.full((2, 2), -0.5))


def lamb_by_hand(weight: Tensor, gradients: list[Tensor], spec: Lamb) -> Tensor:
    """The published update of one tensor, in floats of Python."""
    w = weight.flatten().tolist()
    m, v = [0.0] * len(w), [0.0] * len(w)
    for t, gradient in enumerate(gradients, start=1):
        g = gradient.flatten().tolist()
        m = [0.9 * a + 0.1 * b for a, b in zip(m, g, strict=True)]
        v = [0.999 * a + 0.001 * b * b for a, b in zip(v, g, strict=True)]
        d = [
            a / (1 - 0.9**t) / ((b / (1 - 0.999**t)) ** 0.5 + 1e-6) + spec.weight_decay * c
            for a, b, c in zip(m, v, w, strict=True)
        ]
        ratio = sum(a * a for a in w) ** 0.5 / sum(a * a for a in d) ** 0.5
        w = [a - spec.lr * ratio * b for a, b in zip(w, d, strict=True)]
    return torch.tensor(w, dtype=weight.dtype).view_as(weight)


@pytest.mark.parametrize(
    ("spec", "by_hand"),
    [
        (Lars(lr=0.7, weight_decay=0.01, trust=0.1), lars_by_hand),
        (Lamb(lr=0.07, weight_decay=0.01), lamb_by_hand),
    ],
)
def test_optimizer__equals_formula_by_hand(
    spec: OptimizerSpec, by_hand: Callable[[Tensor, list[Tensor], OptimizerSpec], Tensor]
) -> None:
    generator = torch.Generator().manual_seed(0)
    start, *gradients = torch.randn(5, 3, 2, dtype=torch.float64, generator=generator)
    weight = start.clone().requires_grad_()
    optimizer = spec.make([weight])
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
    torch.testing.assert_close(weight.detach(), by_hand(start, gradients, spec))


@pytest.mark.parametrize("spec", [Lars(lr=0.5, weight_decay=0.0), Lamb(lr=0.5)])
def test_optimizer__zero_gradient_moves_nothing(spec: OptimizerSpec) -> None:
    weight = torch.ones(2, 2, requires_grad=True)
    weight.grad = torch.zeros(2, 2)
    spec.make([weight]).step()
    assert torch.equal(weight.detach(), torch.ones(2, 2))
