"""DC: dataset condensation with gradient matching (Zhao, Mopuri & Bilen, ICLR 2021).

    x_syn ← x_syn - η ∇ Σ_k D(∇_θ L(real images of class k), ∇_θ L(distilled images of class k))

D adds up 1 - cos over the output channels of all layers. The network θ starts at random and is
trained on x_syn between two updates; then comes the next one.
"""

from dataclasses import dataclass

from datastill.augment.dsa import Dsa
from datastill.ground.options import check_bounds
from datastill.methods._gradient_matching import AbstractGradientMatching


@dataclass(frozen=True)
class DC(AbstractGradientMatching):
    """Gradient matching of images as they are; the defaults are the paper's."""

    def __post_init__(self) -> None:
        check_bounds(self)

    @property
    def dsa(self) -> Dsa:
        return Dsa(strategies=())
