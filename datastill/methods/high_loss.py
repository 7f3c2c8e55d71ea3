"""High loss: the source images that networks regress worst after an epoch (MKDT, ICLR 2025).

Joshi, Ni and Mirzasoleiman start MKDT from such images, and compare with them as they are.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from datastill.core.options import option
from datastill.methods._experts import Experts, ExpertTraining, source_representations
from datastill.methods._real_images import RealImagesMethod, groups
from datastill.problem import Problem


@dataclass(frozen=True)
class HighLoss(RealImagesMethod):
    """Take the M source images with the highest loss of networks that regress the source.

    A few networks are trained for one epoch on all images and their target representations; the
    loss of an image is the squared error, averaged over the networks.

    Args:
        targets: Pair the images with their target `representation` or `class-label`; with labels
            every class gives as many.
        experts: Networks whose losses are averaged.
        expert_batch: Source images per step of a network.
        expert_lr: SGD learning rate of the networks.

    Raises:
        ConfigError: The problem lacks the target model, or the labels that are needed.

    Example:
        >>> import datastill as ds, torch
        >>> images = ds.source("digits").load("train").limit(100, seed=0)
        >>> target = ds.TargetModel(torch.nn.Flatten(), images.normalizer, images.image_size)
        >>> problem = ds.Problem(images, target, count=10, network=ds.ConvNet(widths=(8,)))
        >>> len(ds.distill(ds.HighLoss(experts=2), problem))
        10
    """

    variant_options: ClassVar[tuple[str, ...]] = ("targets",)

    experts: int = option(5, "networks whose losses are averaged", at_least=1, smoke=2)
    expert_batch: int = option(256, "source images per step of a network", at_least=1, smoke=4)
    expert_lr: float = option(0.1, "SGD learning rate of the networks", above=0)

    @property
    def needs_target(self) -> bool:
        return True

    def choose(self, problem: Problem) -> Tensor:
        training = ExpertTraining(
            epochs=1,
            batch=self.expert_batch,
            lr=self.expert_lr,
            momentum=0.9,
            weight_decay=1e-4,
            seed=problem.seed,
            zca_ridge_of_mean=None,
        )
        experts = Experts(problem, problem.images, training, source_representations(problem))
        losses = experts.mean_losses(self.experts)
        parts = groups(problem, self.targets)
        return torch.cat([index[highest(losses[index], count)] for index, count in parts])


def highest(losses: Tensor, count: int) -> Tensor:  # (n,) -> (count,) int64
    """Return the positions of the highest losses, highest first."""
    return losses.argsort(descending=True, stable=True)[:count]
