"""Figure 3: sets of Table 2 that were distilled with a ConvNet, transferred by other networks.

`--reuse runs/paper.table2-tinyimagenet` takes target model and sets from there.
"""

from dataclasses import replace

from datastill.experiments.recipe import Recipe
from datastill.networks.alexnet import AlexNet
from datastill.networks.mobilenet import MobileNet
from datastill.networks.resnet10 import ResNet10
from datastill.networks.vgg11 import VGG11
from datastill.recipes.paper import table2_tinyimagenet
from datastill.recipes.paper._shared import FINE_GRAINED, protocol


def recipe() -> Recipe:
    """VGG11, AlexNet, MobileNet and ResNet-10."""
    return replace(
        table2_tinyimagenet.recipe(),
        name="paper.figure3-architectures",
        networks=(VGG11(), AlexNet(), MobileNet(), ResNet10()),
        data=FINE_GRAINED,
        protocols=(protocol(soft_steps=table2_tinyimagenet.SOFT_STEPS),),
    )
