"""Held-out representation error: R² of a network's output against the target model.

This is what distillation optimises, asked of source images that were not distilled.
"""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from datastill.ground.errors import ConfigError
from datastill.ground.machine import Machine
from datastill.images import ImageSet
from datastill.maths.metrics import r_squared
from datastill.networks._base import Network
from datastill.target_model import TargetModel


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Source images that no distilled set was made from, and the target model."""

    images: ImageSet
    target: TargetModel

    @cached_property
    def truth(self) -> Tensor:  # (N, D), on the device
        """g of the held-out images; computed once."""
        return self.target.represent_images(self.images)

    def r2(self, network: Network, machine: Machine) -> float:
        """1 - SSE / SST of the network's outputs over all images and target dimensions.

        Raises:
            ConfigError: the network was not pre-trained to give D outputs.
        """
        if network.outputs != self.target.dim:
            raise ConfigError(
                f"the network has {network.outputs} outputs, the target model {self.target.dim};"
                " only networks pre-trained on target representations have a held-out error"
            )
        outputs = self.images.outputs(network.eval(), machine)
        return r_squared(outputs.cpu(), self.truth.cpu())
