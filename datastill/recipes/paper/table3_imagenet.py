"""Table 3: ImageNet at 64 pixels in 1,000 images, transferred to seven data sets.

Evaluated by the paper's protocol and by MKDT's, as Table 1.
"""

from datastill.experiments.recipe import Recipe
from datastill.networks.convnet import ConvNet
from datastill.protocols.mkdt import PROTOCOL as MKDT
from datastill.recipes.paper._shared import FINE_GRAINED, SEEDS, TABLE_3, TARGET, protocol, sets


def recipe() -> Recipe:
    """Return the recipe, with a ConvNet 64-128-256-512."""
    return Recipe(
        name="paper.table3-imagenet",
        source="imagenet",
        image_size=64,
        target=TARGET,
        network=ConvNet(),
        sets=sets(TABLE_3, 1000, outer_lr=1e-5),
        data=("cifar10", "cifar100", *FINE_GRAINED),
        protocols=(protocol(soft_steps=10_000), MKDT),
        seeds=SEEDS,
        judge_target=False,
    )
