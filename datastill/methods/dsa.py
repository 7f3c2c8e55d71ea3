"""DSA: gradient matching with differentiable Siamese augmentation (Zhao & Bilen, ICML 2021).

    x_syn ← x_syn - η ∇ Σ_k D(∇_θ L(A_ω(real images of class k)), ∇_θ L(A_ω(distilled images)))

DC, but both batches of a class pass the augmentation A with the same amounts ω, drawn anew for
each class and step; and the batches that train the network θ are augmented too.
"""

from dataclasses import dataclass

from datastill.augment.dsa import Dsa
from datastill.core.options import option
from datastill.methods._classes import InitialImages
from datastill.methods._gradient_matching import GradientMatching


@dataclass(frozen=True)
class DSA(GradientMatching):
    """Distill a labelled source by matching gradients of real and distilled images augmented alike.

    The defaults are the paper's.

    Args:
        networks: Random networks, one after another.
        outer_loops: Steps with each network. Default: as published for the images per class.
        inner_epochs: Epochs that a network is trained on distilled images between two steps.
            Default: as published for the images per class.
        class_batch: Real images per class and step.
        outer_lr: SGD learning rate of distilled images.
        outer_momentum: SGD momentum of distilled images.
        inner_batch: Distilled images per training step of a network.
        inner_lr: SGD learning rate of networks.
        statistics_batch: Real images per class for the statistics of batch norm.
        initial_images: Start from `real` images or from `noise`.
        strategies: Augmentations, one of which is drawn per batch; none: as DC.

    Raises:
        ConfigError: An option is outside of its bounds, or the source does not have enough labelled
            images of each class.

    Example:
        >>> import datastill as ds
        >>> problem = ds.Problem(ds.source("digits").load("train"), None, count=10,
        ...                      network=ds.ConvNet(widths=(8,), norm="instance"))
        >>> ds.distill(ds.DSA(networks=2, class_batch=32), problem).images.shape
        torch.Size([10, 1, 16, 16])
    """

    initial_images: InitialImages = option("real", "what distilled images start from")
    strategies: tuple[str, ...] = option(
        Dsa().strategies, "one of these per batch; leave flip out for digits; none: as DC"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        Dsa(self.strategies)  # refuses unknown ones

    @property
    def augmentation(self) -> Dsa:
        return Dsa(self.strategies)
