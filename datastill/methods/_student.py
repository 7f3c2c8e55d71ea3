"""The student of trajectory matching: steps on distilled images that can be differentiated."""

import warnings
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from datastill.ground.errors import NumericalWarning


def train_on(
    student: Callable[[Tensor, Tensor], Tensor],
    start: Tensor,  # (P,)
    batches: Iterable[tuple[Tensor, Tensor]],
    lr: Tensor,  # ()
) -> Tensor:  # (P,)
    """θ ← θ - lr · ∇ CE(student(θ, x), y) for each batch; differentiable in x and lr."""
    theta = start.detach().requires_grad_()
    for x, y in batches:
        loss = F.cross_entropy(student(theta, x), y)
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
        theta = theta - lr * gradient
    return theta


def share_of_distance(theta: Tensor, start: Tensor, goal: Tensor) -> Tensor:  # () of (P,) each
    """‖θ - goal‖² / ‖start - goal‖²: 1 where the student did not move, 0 where it arrived."""
    return (theta - goal).square().sum() / (start - goal).square().sum()


def clip(lr: Tensor, within: tuple[float, float], *, step: int, quiet: bool) -> bool:
    """Put a learned step size back into its range, in place; whether it was outside.

    Warns:
        NumericalWarning: it was outside, and `quiet` is false.
    """
    low, high = within
    learned = float(lr.detach())
    lr.detach().clamp_(low, high)
    outside = float(lr.detach()) != learned
    if outside and not quiet:
        warnings.warn(
            f"student_lr became {learned:.3g} at step {step} and is kept in [{low:.3g}, {high:.3g}]"
            " from now on; the metric 'clipped' counts how often. Lower --method.student_lr_lr or"
            " --method.outer_lr",
            NumericalWarning,
            stacklevel=2,
        )
    return outside
