"""Supervised: cross-entropy on class labels, as an upper line for self-supervised objectives."""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from datastill.core.errors import DataError
from datastill.core.options import option
from datastill.networks.architecture import Network
from datastill.objectives.objective import Objective, Views


@dataclass(frozen=True)
class Supervised(Objective):
    """Classify both views by a linear classifier on the representation; the mean cross-entropy.

    The only objective that reads labels: a target model trained by it is not self-supervised.

    Args:
        label_smoothing: Share of each label that is spread over all classes, in [0, 1).

    Raises:
        ConfigError: The smoothing is outside its range.

    Example:
        >>> import torch
        >>> from datastill.networks.convnet import ConvNet
        >>> network = ConvNet(widths=(4, 8))(image_size=8, channels=1, outputs=None)
        >>> heads = Supervised().heads(network, num_classes=3)
        >>> views = Views(torch.rand(10, 1, 8, 8), labels=torch.tensor([0, 1, 2, 0, 1]))
        >>> Supervised().loss(heads, network, views).shape
        torch.Size([])
    """

    needs_labels: ClassVar[bool] = True
    label_smoothing: float = option(
        0.0, "share of each label that is spread over all classes", at_least=0, below=1
    )

    def heads(self, network: Network, num_classes: int) -> nn.Module:
        return nn.Linear(network.outputs, num_classes)

    def loss(self, heads: nn.Module, network: Network, views: Views) -> Tensor:
        labels = views.all_labels()
        if len(labels) < 2:
            raise DataError("a batch of one image; use a batch of two or more")
        logits = heads(views.encode_and_gather(network))
        return F.cross_entropy(logits, labels.repeat(2), label_smoothing=self.label_smoothing)
