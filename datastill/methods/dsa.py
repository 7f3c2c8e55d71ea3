"""DSA: gradient matching with differentiable Siamese augmentation (Zhao & Bilen, ICML 2021).

    x_syn ← x_syn - η ∇ Σ_k D(∇_θ L(A_ω(real images of class k)), ∇_θ L(A_ω(distilled images)))

DC, but both batches of a class pass the augmentation A with the same amounts ω, drawn anew for
each class and step; and the batches that train the network θ are augmented too.
"""

from dataclasses import dataclass

from datastill.augment.dsa import Dsa
from datastill.ground.options import check_bounds, option
from datastill.methods._class_matching import InitialImages
from datastill.methods._gradient_matching import AbstractGradientMatching


@dataclass(frozen=True)
class DSA(AbstractGradientMatching):
    """Gradient matching of images that are augmented alike; the defaults are the paper's."""

    initial_images: InitialImages = option("real", "what distilled images start from")
    strategies: tuple[str, ...] = option(
        Dsa().strategies, "one of these per batch; leave flip out for digits; none: as DC"
    )

    def __post_init__(self) -> None:
        check_bounds(self)
        Dsa(self.strategies)  # refuses unknown ones

    @property
    def dsa(self) -> Dsa:
        return Dsa(self.strategies)
