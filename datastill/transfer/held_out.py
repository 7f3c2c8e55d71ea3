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

    def r2(self, network: Network, machine: Machine) -> float:
        """Return 1 - SSE / SST of the network's outputs over all images and target dimensions.

        Raises:
            ConfigError: The network does not have D outputs.
        """
        if network.outputs != self.target.dim:
            raise ConfigError(
                f"the network has {network.outputs} outputs, the target model {self.target.dim};"
                " only networks pre-trained on target representations have a held-out error"
            )
        outputs = self.images.predict(network.eval(), machine)
        return r_squared(outputs.cpu(), self.target_representations.cpu())
