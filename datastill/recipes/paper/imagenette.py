"""Imagenette at 224 pixels in ten images.

The released code asks torch.hub's ResNet-50 for the representations (Barlow Twins on ImageNet);
here a ResNet-18 is trained on Imagenette itself (docs/fidelity.md#paper-recipes).
"""

from datastill.experiments.recipe import Recipe
from datastill.networks.convnet import ConvNet
from datastill.networks.resnet18 import ResNet18
from datastill.recipes.paper._shared import FINE_GRAINED, SEEDS, TABLE_3, protocol, sets
from datastill.train_target import TargetTraining


def recipe() -> Recipe:
    """ConvNet 32-64-128-256-512."""
    return Recipe(
        name="paper.imagenette",
        source="imagenette",
        image_size=224,
        target=TargetTraining(ResNet18(stem="large")),
        network=ConvNet(),
        sets=sets(TABLE_3, 10, outer_lr=1e-3),
        data=("imagenette", *FINE_GRAINED),
        protocols=(protocol(soft_steps=1000, soft_batch=10),),
        seeds=SEEDS,
        judge_target=False,
    )
