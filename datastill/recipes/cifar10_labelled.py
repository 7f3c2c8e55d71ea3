"""CIFAR-10 in 1 and 10 images per class, by every method that learns from class labels.

The usual benchmark of distillation with labels: networks are trained from scratch on the sets and
tested on CIFAR-10, five per row. There is no target model. Published numbers:
benchmarks/published_labelled.csv.
"""

from dataclasses import replace

from datastill.experiments.recipe import DistillationSpec, Recipe
from datastill.methods.dc import DC
from datastill.methods.dm import DM
from datastill.methods.dsa import DSA
from datastill.methods.frepo import FRePo
from datastill.methods.herding import Herding
from datastill.methods.k_means import KMeans
from datastill.methods.kip import KIP
from datastill.methods.mtt import MTT
from datastill.methods.random_subset import RandomSubset
from datastill.networks.convnet import ConvNet
from datastill.ops.schedules import Cosine
from datastill.protocols.labelled import NETWORK, PROTOCOL

CLASSES = 10
SEEDS = 5  # networks per row


def recipe() -> Recipe:
    """Return the recipe with the published budgets."""
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


def sets(per_class: int) -> tuple[DistillationSpec, ...]:
    """Return one row per method."""
    count = per_class * CLASSES
    return (
        DistillationSpec(RandomSubset(targets="class-label", balanced=True), count, SEEDS),
        DistillationSpec(KMeans(targets="class-label", space="pixels"), count, SEEDS),
        DistillationSpec(Herding(targets="class-label", space="pixels"), count),
        DistillationSpec(DC(), count),
        DistillationSpec(DSA(), count),
        DistillationSpec(DM(), count),
        DistillationSpec(_mtt(per_class), count),
        DistillationSpec(KIP(), count),
        DistillationSpec(FRePo(), count, network=FRePo.default_network),
    )


def _mtt(per_class: int) -> MTT:
    """Return DC-BENCH's settings, by MTT's authors (docs/fidelity.md#mtt)."""
    if per_class > 1:
        return MTT()
    return MTT(syn_steps=50, max_start_epoch=2, student_lr=1e-2, student_lr_lr=1e-7)


def small() -> Recipe:
    """Return the recipe for two CPU cores: narrower networks, and fewer steps of each method."""
    hard, soft = PROTOCOL.pretraining("hard-label"), PROTOCOL.pretraining("soft-label")
    network = ConvNet(widths=(32,), norm="instance")
    shorter = replace(
        PROTOCOL,
        name="labelled, shorter",
        networks=((32, network),),
        hard_label=replace(hard, steps=500),
        soft_label=replace(soft, schedule=Cosine(warmup_steps=100), steps=1000),
    )
    return replace(
        recipe(),
        network=network,
        sets=(*small_sets(10), *small_sets(1)),
        protocols=(shorter,),
        precision="bfloat16",
        scale="small",
    )


def small_sets(per_class: int) -> tuple[DistillationSpec, ...]:
    """Return one row per method, with budgets for two CPU cores; nothing is whitened."""
    count = per_class * CLASSES
    networks = 20 if per_class > 1 else 200  # of ten outer steps each, or one
    dc = DC(networks=networks, inner_epochs=10, class_batch=64, initial_images="real")
    dsa = DSA(networks=networks, inner_epochs=10, class_batch=64)
    frepo = FRePo(outer_steps=1500, outer_batch=256, outer_lr=3e-3, zca=False)
    return (
        *sets(per_class)[:3],
        DistillationSpec(dc, count),
        DistillationSpec(dsa, count),
        DistillationSpec(DM(outer_steps=600, class_batch=64), count),
        DistillationSpec(SMALL_MTT, count),
        DistillationSpec(KIP(outer_steps=500, outer_batch=2000, zca=False), count),
        DistillationSpec(frepo, count, network=ConvNet(widths=(32, 64, 128))),
    )


SMALL_MTT = MTT(
    outer_steps=150,
    syn_steps=15,
    student_lr=0.03,
    student_lr_lr=1e-4,
    max_start_epoch=3,
    matched_epochs=1,
    experts=3,
    expert_epochs=4,
    zca=False,
)
