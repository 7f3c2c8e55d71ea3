"""SimCLR: a simple framework for contrastive learning (Chen et al., ICML 2020)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datastill.core.options import option
from datastill.objectives.objective import JointEmbedding, check_pairs, mlp


@dataclass(frozen=True)
class SimCLR(JointEmbedding):
    """Find, for each view, the other view of its image among all other views of the batch.

    The loss (NT-Xent) is the mean over all 2B views i, with partner j, of
    -log(exp(s_ij / temperature) / Σ_k≠i exp(s_ik / temperature)), s being cosines.

    Args:
        projector: Widths of the projector's layers; none compares the representation itself.
        temperature: Divisor of the cosines.

    Raises:
        ConfigError: An option is outside its range.

    Example:
        >>> z = torch.eye(4)
        >>> simclr = SimCLR(temperature=0.1)
        >>> bool(simclr.compare(z, z) < simclr.compare(z, z.roll(1, 0)))  # right and wrong partners
        True
    """

    projector: tuple[int, ...] = option(
        (512, 128),
        "widths of the projector's layers, the first as wide as the representation in the paper;"
        " none = the representation itself",
        at_least=1,
    )
    temperature: float = option(
        0.5, "divides cosines; the paper: 0.5 for CIFAR-10, 0.1 for ImageNet", above=0
    )

    def head(self, dim: int) -> nn.Module:
        return mlp(dim, self.projector, batch_norm=False)

    def compare(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        z = F.normalize(torch.cat(check_pairs(z_a, z_b)))  # (2B, P)
        cosines = (z @ z.T).fill_diagonal_(-torch.inf)  # no view is compared with itself
        partner = torch.arange(len(z), device=z.device).roll(len(z_a))
        return F.cross_entropy(cosines / self.temperature, partner)
