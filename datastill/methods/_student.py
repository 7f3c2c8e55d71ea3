"""The student of trajectory matching: steps on distilled images that can be differentiated."""

import warnings
from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from datastill.ground.errors import NotFiniteError, NumericalWarning


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


def refuse_non_finite(step: int, lr: float, tensors: Mapping[str, Tensor]) -> None:
    """Stop before anything is updated with NaN or infinity.

    Raises:
        NotFiniteError: the message names step and tensor.
    """
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise NotFiniteError(
                f"distill: the {name} is not finite at step {step}, where student_lr is {lr:.3g};"
                " lower --method.outer_lr, --method.student_lr or --method.syn_steps."
                " Nothing was updated, and the last checkpoint is unharmed"
            )


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
