"""CIFAR-100 at small scale: does distillation beat random images, and does the pool's age matter?

About 90 minutes on two CPU cores. Widths, counts and steps are reduced from the paper's
(docs/fidelity.md#cifar100-small); protocols are its own.
"""

from dataclasses import replace

from datastill.experiments.recipe import DistillationSpec, Recipe
from datastill.methods.full_source import FullSource
from datastill.methods.krr_st import KRRST
from datastill.methods.random_subset import RandomSubset
from datastill.networks.convnet import ConvNet
from datastill.networks.resnet18 import ResNet18
from datastill.objectives.barlow_twins import BarlowTwins
from datastill.ops.optimizers import AdamW
from datastill.protocols.protocol import custom_protocol
from datastill.train_target import TargetTraining
from datastill.transfer.finetune import Finetune
from datastill.transfer.linear_probe import LinearProbe

NUMBERS = {100: 3, 500: 1}  # distilled images -> sets of each kind
SEEDS = 3  # networks per row


def recipe() -> Recipe:
    """Return the recipe: nine rows, three networks each."""
    return Recipe(
        name="cifar100-small",
        source="cifar100",
        image_size=32,
        target=TargetTraining(
            architecture=ResNet18(width=16),
            objective=BarlowTwins(projector=(512, 512)),
            optimizer=AdamW(lr=2e-3, weight_decay=1e-4),
            batch=256,
            steps=1200,
            standardize=True,
        ),
        network=ConvNet(widths=(16, 32, 64)),
        sets=(
            *(sets for count in NUMBERS for sets in _sets(count)),
            DistillationSpec(FullSource(), "all"),
        ),
        data=("cifar100", "cifar10", "cub"),
        protocols=(
            custom_protocol(
                LinearProbe(
                    features="output", labels=("1%", "10%", "all"), standardize=True, steps=1000
                ),
                Finetune(steps=200),
                pretrain_steps=500,
            ),
        ),
        seeds=SEEDS,
        probe_every=500,
        judge_target=False,  # fine-tuning a ResNet-18 would take as long as all other rows
        precision="bfloat16",
    )


def _sets(count: int) -> tuple[DistillationSpec, ...]:
    krr_st = KRRST(
        outer_steps=1000,
        outer_batch=512,
        outer_lr=0.01,
        target_lr=0.03,
        pool_size=5,
        max_age=100,
        crop_padding=0,
        bank="full",
        bank_precision="float32",
    )
    number = NUMBERS[count]
    return (
        DistillationSpec(RandomSubset(targets="class-label"), count, SEEDS),
        DistillationSpec(RandomSubset(), count, SEEDS),
        DistillationSpec(krr_st, count, number),
        DistillationSpec(replace(krr_st, stale_pool=True), count, number),
    )
