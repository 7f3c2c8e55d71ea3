"""CIFAR-10 in 1 and 10 images per class, by every method that learns from class labels.

The field's own benchmark: networks are trained from scratch on the sets and tested on CIFAR-10,
five per row. There is no target model. Published numbers: benchmarks/published_labelled.csv.
"""

from dataclasses import replace

from datastill.maths.schedules import Cosine
from datastill.methods.random_subset import RandomSubset
from datastill.protocols.labelled import NETWORK, PROTOCOL
from datastill.recipes._base import Recipe, Sets

CLASSES = 10
SEEDS = 5  # networks per row


def recipe() -> Recipe:
    """The published budgets."""
    return Recipe(
        name="cifar10-labelled",
        source="cifar10",
        image_size=32,
        target=None,
        network=NETWORK,
        sets=(*sets(1), *sets(10)),
        data=("cifar10",),
        protocols=(PROTOCOL,),
        seeds=SEEDS,
        judge_target=False,
    )


def sets(per_class: int) -> tuple[Sets, ...]:
    """One row per method."""
    count = per_class * CLASSES
    return (Sets(RandomSubset(targets="class-label", balanced=True), count, SEEDS),)


def small() -> Recipe:
    """For two CPU cores: networks of the full scale, trained on the sets for 300 epochs."""
    hard, soft = PROTOCOL.pretraining("hard-label"), PROTOCOL.pretraining("soft-label")
    shorter = replace(
        PROTOCOL,
        name="labelled, shorter",
        hard_label=replace(hard, epochs=300),
        soft_label=replace(soft, schedule=Cosine(warmup_steps=100), steps=500),
    )
    return replace(
        recipe(),
        sets=(*small_sets(1), *small_sets(10)),
        protocols=(shorter,),
        precision="bfloat16",
        scale="small",
    )


def small_sets(per_class: int) -> tuple[Sets, ...]:
    """One row per method, with the budgets that two CPU cores can afford."""
    return sets(per_class)
