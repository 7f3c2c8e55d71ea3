"""Table 2: Tiny ImageNet in 2,000 images, transferred to seven data sets at 64 pixels.

Evaluated by the paper's protocol and by MKDT's, as Table 1.
"""

from datastill.experiments.recipe import Recipe
from datastill.networks.convnet import ConvNet
from datastill.protocols.mkdt import PROTOCOL as MKDT
from datastill.recipes.paper._shared import (
    FINE_GRAINED,
    MTT_TINY,
    SEEDS,
    TABLE_2,
    TARGET,
    protocol,
    sets,
)

SOFT_STEPS = 40_000  # of pre-training on soft labels


def recipe() -> Recipe:
    """Return the recipe, with a ConvNet 64-128-256-512."""
    return Recipe(
        name="paper.table2-tinyimagenet",
        source="tiny-imagenet",
        image_size=64,
        target=TARGET,
        network=ConvNet(),
        sets=sets(TABLE_2, 2000, outer_lr=1e-5, mtt=MTT_TINY),
        data=("tiny-imagenet", "cifar10", *FINE_GRAINED),
        protocols=(protocol(soft_steps=SOFT_STEPS), MKDT),
        seeds=SEEDS,
        judge_target=False,
    )
