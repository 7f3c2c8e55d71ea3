"""BYOL: bootstrap your own latent (Grill et al., NeurIPS 2020)."""

import math
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datastill.core.options import option
from datastill.networks.architecture import Network
from datastill.objectives.objective import Objective, Views, check_pairs, mlp


class BYOLHeads(nn.Module):
    """Projector and predictor of the online network, and a copy of network and projector."""

    def __init__(self, network: Network, projector: nn.Module, predictor: nn.Module) -> None:
        super().__init__()
        self.projector, self.predictor = projector, predictor
        self.target = deepcopy(nn.Sequential(network, projector)).requires_grad_(False)


@dataclass(frozen=True)
class BYOL(Objective):
    """Predict, from one view, the target network's projection of the other view.

    The loss is the mean over images of ‖p̂_a - ẑ_b‖² + ‖p̂_b - ẑ_a‖², with predictions p of the
    online and projections z of the target network, scaled to length one. The target network ξ is
    the moving average of the online network θ: after update k of K, ξ ← τ ξ + (1 - τ) θ with
    τ = 1 - (1 - tau) · (cos(πk/K) + 1) / 2.

    Args:
        projector: Widths of the projector's layers; none predicts the representation itself.
        predictor: Widths of the predictor's layers below its last; none: it is linear.
        tau: Share of the target network that the first update keeps, in [0, 1).

    Raises:
        ConfigError: An option is outside its range.

    Example:
        >>> from datastill.networks.convnet import ConvNet
        >>> network = ConvNet(widths=(4, 8))(image_size=8, channels=1, outputs=None)
        >>> byol = BYOL(projector=(16, 8), predictor=(16,))
        >>> heads = byol.heads(network, num_classes=0)
        >>> loss = byol.loss(heads, network, Views(torch.rand(10, 1, 8, 8)))
        >>> 0 <= loss.item() <= 8
        True
        >>> byol.after_step(heads, network, progress=0.0)  # moves the target network
    """

    projector: tuple[int, ...] = option(
        (4096, 256), "widths of the projector's layers; none = the representation", at_least=1
    )
    predictor: tuple[int, ...] = option(
        (4096,), "widths of the predictor's layers below its last; none: it is linear", at_least=1
    )
    tau: float = option(
        0.996,
        "first share of the target network that an update keeps; the released code: 0.97 for 40"
        " epochs, 0.99 for 100 to 300, 0.996 for 1000",
        at_least=0,
        below=1,
    )

    def heads(self, network: Network, num_classes: int) -> BYOLHeads:
        dim = (network.outputs, *self.projector)[-1]
        projector = mlp(network.outputs, self.projector)
        predictor = mlp(dim, (*self.predictor, dim))
        return BYOLHeads(network, projector, predictor)

    def loss(self, heads: nn.Module, network: Network, views: Views) -> Tensor:
        assert isinstance(heads, BYOLHeads)
        p_a, p_b = heads.predictor(heads.projector(views.encode_and_gather(network))).chunk(2)
        target_network, target_projector = heads.target
        with torch.no_grad():
            z_a, z_b = target_projector(views.encode_and_gather(target_network)).chunk(2)
        return distance(p_a, z_b) + distance(p_b, z_a)

    def after_step(self, heads: nn.Module, network: Network, *, progress: float) -> None:
        """Move the target network towards the online one; its batch statistics are not averaged."""
        assert isinstance(heads, BYOLHeads)
        online = nn.Sequential(network, heads.projector)
        with torch.no_grad():
            for xi, theta in zip(heads.target.parameters(), online.parameters(), strict=True):
                xi.lerp_(theta, 1 - self.tau_at(progress))

    def tau_at(self, progress: float) -> float:
        """Return τ, from `tau` at the first update (progress 0) to one at the end."""
        return 1 - (1 - self.tau) * (1 + math.cos(math.pi * progress)) / 2


def distance(p: Tensor, z: Tensor) -> Tensor:
    """Return the mean over the batch of ‖p̂ - ẑ‖² = 2 - 2 cos(p, z), for p and z (B, P).

    Raises:
        DataError: The shapes differ, or there are fewer than two images.
    """
    return 2 - 2 * F.cosine_similarity(*check_pairs(p, z)).mean()
