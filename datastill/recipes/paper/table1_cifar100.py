"""Table 1: CIFAR-100 in 1,000 images, transferred to seven data sets at 32 pixels.

Evaluated by the paper's protocol and by MKDT's, whose published conclusions contradict each other.
"""

from dataclasses import replace

from datastill.experiments.recipe import DistillationSpec, Recipe
from datastill.methods.dm import DM
from datastill.methods.dsa import DSA
from datastill.methods.frepo import FRePo
from datastill.methods.k_means import KMeans
from datastill.methods.kip import KIP
from datastill.methods.krr_st import KRRST
from datastill.methods.random_subset import RandomSubset
from datastill.networks.convnet import ConvNet
from datastill.networks.resnet18 import ResNet18
from datastill.objectives.barlow_twins import BarlowTwins
from datastill.ops.optimizers import AdamW
from datastill.protocols.mkdt import PROTOCOL as MKDT
from datastill.recipes.paper._shared import (
    FINE_GRAINED,
    MTT_CIFAR100,
    SEEDS,
    TABLE_1,
    TARGET,
    protocol,
    sets,
)
from datastill.train_target import TargetTraining
from datastill.transfer.finetune import Finetune


def recipe() -> Recipe:
    """Return the recipe, with a ConvNet 128-256-512."""
    return Recipe(
        name="paper.table1-cifar100",
        source="cifar100",
        image_size=32,
        target=TARGET,
        network=ConvNet(),
        sets=sets(TABLE_1, 1000, outer_lr=1e-3, mtt=MTT_CIFAR100),
        data=("cifar100", "cifar10", *FINE_GRAINED),
        protocols=(protocol(soft_steps=10_000), MKDT),
        seeds=SEEDS,
        judge_target=False,
    )


def small() -> Recipe:
    """Return it for two CPU cores and some hours: narrow networks, 500 images, 500 updates."""
    krr_st = KRRST(
        outer_steps=1000,
        outer_batch=512,
        target_lr=3e-3,
        pool_size=5,
        crop_padding=0,
        bank="full",
        bank_precision="float32",
    )
    shorter = replace(
        protocol(soft_steps=1_000), name="paper, shorter", tasks=(Finetune(steps=500),)
    )
    return replace(
        recipe(),
        target=TargetTraining(
            architecture=ResNet18(width=16),
            objective=BarlowTwins(projector=(512, 512)),
            optimizer=AdamW(lr=2e-3, weight_decay=1e-4),
            steps=1200,
            standardize=True,
        ),
        network=ConvNet(widths=(16, 32, 64)),
        sets=(
            DistillationSpec(RandomSubset(targets="class-label"), 500, SEEDS),
            DistillationSpec(RandomSubset(), 500, SEEDS),
            DistillationSpec(KMeans(targets="class-label"), 500),
            *small_compared(500),
            DistillationSpec(krr_st, 500, SEEDS),
        ),
        data=("cifar100", "cifar10", "cub"),
        protocols=(shorter, MKDT),
        precision="bfloat16",
        scale="small",
    )


def small_compared(count: int) -> tuple[DistillationSpec, ...]:
    """Return the methods of class labels with a thousandth of their steps or less."""
    inner = ConvNet(widths=(32,), norm="instance")
    mtt = replace(
        MTT_CIFAR100,
        outer_steps=100,
        syn_batch=125,
        student_lr=0.03,
        student_lr_lr=1e-4,
        max_start_epoch=3,
        matched_epochs=1,
        experts=2,
        expert_epochs=4,
    )
    frepo = FRePo(outer_steps=800, outer_batch=256, outer_lr=3e-3, mirror=False, zca=False)
    return (
        DistillationSpec(
            DSA(networks=5, outer_loops=10, inner_epochs=5, class_batch=32), count, network=inner
        ),
        DistillationSpec(DM(outer_steps=120, class_batch=32), count, network=inner),
        DistillationSpec(mtt, count, network=inner),
        DistillationSpec(KIP(outer_steps=300, outer_batch=1000, zca=False), count),
        DistillationSpec(frepo, count, network=ConvNet(widths=(16, 32, 64))),
    )
