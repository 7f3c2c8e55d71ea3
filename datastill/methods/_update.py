"""The update of what is distilled: never with NaN or infinity, never out of all bounds."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer

from datastill.ground.errors import NotFiniteError
from datastill.ground.profile import part_of_step

LARGEST = 1e6  # of a pixel, label or representation that is learned; sound ones are below 100
ADVICE = "lower --method.outer_lr"


@part_of_step("update")
def update(
    optimizer: Optimizer, loss: Tensor, learned: Mapping[str, Tensor], *, advice: str = ADVICE
) -> None:
    """One step of `optimizer` on the `learned` tensors, whose gradients are there already.

    The loop adds phase and step to what is raised. Each of the two looks reads one number from the
    device, whatever the number of tensors.

    Raises:
        NotFiniteError: the loss or a gradient is not finite, and nothing was updated; or the update
            led beyond `LARGEST`, from where no loss leads back.
    """
    gradients = {f"gradient of {k}": x.grad for k, x in learned.items() if x.grad is not None}
    _refuse_non_finite({"loss": loss, **gradients}, advice)
    optimizer.step()
    with torch.no_grad():
        sets = {k: x.abs().max() for k, x in learned.items() if x.dim()}  # a rate may be anything
        within = torch.stack([x <= LARGEST for x in sets.values()])
    if not bool(within.all()):
        sizes = ", ".join(f"{name} {float(largest):.3g}" for name, largest in sets.items())
        raise NotFiniteError(
            f"the update led beyond {LARGEST:g} (largest value of {sizes}); {advice}"
        )


def _refuse_non_finite(tensors: Mapping[str, Tensor], advice: str) -> None:
    finite = torch.stack([tensor.isfinite().all() for tensor in tensors.values()])
    if bool(finite.all()):
        return
    name, tensor = next((k, x) for k, x in tensors.items() if not x.isfinite().all())
    known = tensor[tensor.isfinite()]
    rest = f" (the rest in [{known.min():.3g}, {known.max():.3g}])" if len(known) else ""
    bad = tensor.numel() - len(known)
    raise NotFiniteError(
        f"the {name} is not finite in {bad} of {tensor.numel()} values{rest}; {advice}."
        " Nothing was updated"
    )
