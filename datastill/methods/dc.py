"""DC: dataset condensation with gradient matching (Zhao, Mopuri & Bilen, ICLR 2021).

    x_syn ← x_syn - η ∇ Σ_k D(∇_θ L(real images of class k), ∇_θ L(distilled images of class k))

D adds up 1 - cos over the output channels of all layers. The network θ starts at random, is
trained on x_syn between two updates, and after `outer_loops` of them is replaced by the next one.
"""

from dataclasses import dataclass

from datastill.augment.dsa import Dsa
from datastill.methods._gradient_matching import GradientMatching


@dataclass(frozen=True)
class DC(GradientMatching):
    """Distill a labelled source by matching gradients, class by class, without augmentation.

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

    Raises:
        ConfigError: An option is outside of its bounds, or the source does not have enough labelled
            images of each class.

    Example:
        >>> import datastill as ds
        >>> problem = ds.Problem(ds.source("digits").load("train"), None, count=10,
        ...                      network=ds.ConvNet(widths=(8,), norm="instance"))
        >>> ds.distill(ds.DC(networks=2, class_batch=32), problem).images.shape
        torch.Size([10, 1, 16, 16])
    """

    @property
    def augmentation(self) -> Dsa:
        return Dsa(strategies=())
