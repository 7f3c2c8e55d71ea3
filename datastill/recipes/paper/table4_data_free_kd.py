"""Table 4: target-data-free knowledge distillation with the images of Table 2's sets.

`--reuse runs/paper.table2-tinyimagenet` takes target model and sets from there. The row `scratch`
is the paper's Gaussian noise.
"""

from dataclasses import replace

from datastill.experiments.recipe import Recipe
from datastill.networks.alexnet import AlexNet
from datastill.networks.convnet import ConvNet
from datastill.networks.mobilenet import MobileNet
from datastill.networks.resnet10 import ResNet10
from datastill.networks.vgg11 import VGG11
from datastill.recipes.paper import table2_tinyimagenet
from datastill.recipes.paper._shared import protocol
from datastill.transfer.data_free_kd import DataFreeKd


def recipe() -> Recipe:
    """Five students of a ResNet-18 that was taught CIFAR-10 at 64 pixels."""
    paper = protocol(soft_steps=table2_tinyimagenet.SOFT_STEPS)
    return replace(
        table2_tinyimagenet.recipe(),
        name="paper.table4-data-free-kd",
        networks=(ConvNet(), VGG11(), AlexNet(), MobileNet(), ResNet10()),
        data=("cifar10",),
        protocols=(replace(paper, tasks=(DataFreeKd(),)),),
    )
