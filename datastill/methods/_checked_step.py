"""Optimizer step that raises if a loss, gradient or parameter is not finite or too large."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer

from datastill.core.errors import NotFiniteError
from datastill.core.profile import profile_section

LARGEST = 1e6  # of a learned pixel, label or representation; usual ones are below 100


@profile_section("update")
def checked_optimizer_step(
    optimizer: Optimizer,
    loss: Tensor,
    learned: Mapping[str, Tensor],
    *,
    advice: str = "lower --method.outer_lr",
) -> None:
    """Update the `learned` tensors, whose gradients are already set.

    Each of the two checks reads one number from the device, however many tensors there are. The
    loop adds phase and step to what is raised.

    Args:
        optimizer: Of the learned tensors.
        loss: The scalar whose gradients they have.
        learned: The tensors by the names that errors use.
        advice: What to do about an error.

    Raises:
        NotFiniteError: The loss or a gradient is not finite, and nothing was updated; or a tensor
            diverged past `LARGEST`.
    """
    gradients = {f"gradient of {name}": x.grad for name, x in learned.items() if x.grad is not None}
    checked = {"loss": loss, **gradients}
    if not torch.stack([x.isfinite().all() for x in checked.values()]).all():
        name, x = next((name, x) for name, x in checked.items() if not x.isfinite().all())
        finite = x[x.isfinite()]
        rest = f" (the rest in [{finite.min():.3g}, {finite.max():.3g}])" if len(finite) else ""
        raise NotFiniteError(
            f"the {name} is not finite in {x.numel() - len(finite)} of {x.numel()} values{rest};"
            f" {advice}. Nothing was updated"
        )
    optimizer.step()
    # Scalars are learning rates, which may have any size.
    largest = {name: x.detach().abs().max() for name, x in learned.items() if x.dim()}
    if not torch.stack([x <= LARGEST for x in largest.values()]).all():
        sizes = ", ".join(f"{name} {float(x):.3g}" for name, x in largest.items())
        raise NotFiniteError(
            f"the update diverged past {LARGEST:g} (largest value of {sizes}); {advice}"
        )
