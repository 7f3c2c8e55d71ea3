"""Held-out R²: how well a network predicts the target model's outputs on held-out source images.

This is what distillation optimises, measured on images that no distilled set was made from.
"""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from datastill.core.errors import ConfigError
from datastill.core.machine import Machine
from datastill.images import ImageSet
from datastill.networks.architecture import Network
from datastill.ops.metrics import r_squared
from datastill.stored_form.stored import TargetBasis
from datastill.target_model import TargetModel


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out source images and the target model whose outputs are to be predicted.

    Args:
        images: Source images (N) that no distilled set was made from.
        target: The target model.
    """

    images: ImageSet
    target: TargetModel

    @cached_property
    def target_representations(self) -> Tensor:  # (N, D), on the device
        """The target model's outputs for the held-out images; computed once."""
        return self.target.represent_images(self.images)

    def r2(self, network: Network, machine: Machine, *, basis: TargetBasis | None = None) -> float:
        """Return 1 - SSE / SST of the network's outputs over all images and target dimensions.

        Args:
            network: Pre-trained on the target model's outputs, or on their coordinates.
            machine: Device and precision.
            basis: Of the coordinates; what they leave out is predicted by its mean, so that R² is
                over all D outputs.

        Raises:
            ConfigError: The network does not have D outputs, or the basis is of another target.
        """
        dim = self.target.dim if basis is None else basis.basis.shape[1]
        if network.outputs != dim or (basis is not None and len(basis.mean) != self.target.dim):
            raise ConfigError(
                f"the network has {network.outputs} outputs, the target model {self.target.dim};"
                " only networks pre-trained on target representations have a held-out error"
            )
        outputs = self.images.predict(network.eval(), machine).cpu()
        if basis is not None:
            outputs = basis.outputs(outputs)
        return r_squared(outputs, self.target_representations.cpu())
