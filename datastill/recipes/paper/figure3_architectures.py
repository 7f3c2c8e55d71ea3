"""Figure 3: sets of Table 2 that were distilled with a ConvNet, transferred by other networks.

`--reuse runs/paper.table2-tinyimagenet` takes target model and sets from there.
"""

from datastill.experiments.recipe import Recipe
from datastill.networks.alexnet import AlexNet
from datastill.networks.convnet import ConvNet
from datastill.networks.mobilenet import MobileNet
from datastill.networks.resnet10 import ResNet10
from datastill.networks.vgg11 import VGG11
from datastill.recipes.paper._shared import (
    FINE_GRAINED,
    MTT_TINY,
    SEEDS,
    TABLE_2,
    TARGET,
    protocol,
    sets,
)


def recipe() -> Recipe:
    """VGG11, AlexNet, MobileNet and ResNet-10."""
    return Recipe(
        name="paper.figure3-architectures",
        source="tiny-imagenet",
        image_size=64,
        target=TARGET,
        network=ConvNet(),
        sets=sets(TABLE_2, 2000, outer_lr=1e-5, mtt=MTT_TINY),
        networks=(VGG11(), AlexNet(), MobileNet(), ResNet10()),
        data=FINE_GRAINED,
        protocols=(protocol(soft_steps=40_000),),
        seeds=SEEDS,
        judge_target=False,
    )
