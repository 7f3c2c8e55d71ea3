"""What the paper's tables share (Lee et al., ICLR 2024, section 5; released train.py, test.py).

All numbers are the paper's, or the released code's where the paper is silent; neither says how
the compared sets were made: each method has its own paper's settings, without whitening
(docs/fidelity.md#paper-recipes).
"""

from dataclasses import replace

from datastill.augment.dsa import Dsa
from datastill.experiments.recipe import DistillationSpec
from datastill.methods.dm import DM
from datastill.methods.dsa import DSA
from datastill.methods.frepo import FRePo
from datastill.methods.k_means import KMeans
from datastill.methods.kip import KIP
from datastill.methods.krr_st import KRRST
from datastill.methods.mtt import MTT
from datastill.methods.random_subset import RandomSubset
from datastill.ops.optimizers import AdamW
from datastill.ops.schedules import Cosine
from datastill.pretrain import Pretraining
from datastill.protocols.paper import PROTOCOL
from datastill.protocols.protocol import Protocol
from datastill.train_target import TargetTraining

SEEDS = 3  # networks per row, each pre-trained anew on one fixed set
FINE_GRAINED = ("aircraft", "cars", "cub", "dogs", "flowers")
TARGET = TargetTraining()  # ResNet-18 by Barlow Twins; how it was trained was not released


TABLE_1 = ("random", "k-means", "dsa", "dm", "mtt", "kip", "frepo", "krr-st")
TABLE_2 = tuple(row for row in TABLE_1 if row != "kip")  # of Figure 3 and Table 4, too
TABLE_3 = ("random", "frepo", "krr-st")
# settings of MTT's authors for 10 images per class, as DC-BENCH has them (docs/fidelity.md#mtt)
MTT_CIFAR100 = MTT(outer_lr=1e3, syn_steps=20, student_lr=0.01, zca=False)
MTT_TINY = MTT(
    outer_lr=1e4,
    syn_steps=20,
    syn_batch=200,
    student_lr=0.01,
    student_lr_lr=1e-4,
    max_start_epoch=40,
    zca=False,
)
CONTROL = (
    "random images with KRR-ST's targets"  # ours: the gain of distillation is measured against it
)


def sets(
    rows: tuple[str, ...], count: int, *, outer_lr: float, mtt: MTT | None = None
) -> tuple[DistillationSpec, ...]:
    """Return the rows of a table and the control; methods of labels have other inner networks.

    `mtt` has the settings for this source; `outer_lr` is KRR-ST's.
    """
    krr_st, frepo = KRRST(outer_lr=outer_lr), FRePo(mirror=False, zca=False)
    specs = {
        "random": DistillationSpec(RandomSubset(targets="class-label"), count),
        CONTROL: DistillationSpec(RandomSubset(), count),
        "k-means": DistillationSpec(KMeans(targets="class-label"), count),
        "dsa": DistillationSpec(DSA(), count, network=DSA.default_network),
        "dm": DistillationSpec(DM(), count, network=DM.default_network),
        "mtt": DistillationSpec(mtt or MTT(zca=False), count, network=MTT.default_network),
        "kip": DistillationSpec(KIP(zca=False), count),
        "frepo": DistillationSpec(frepo, count, network=FRePo.default_network),
        "krr-st": DistillationSpec(krr_st, count),
    }
    return tuple(spec for row, spec in specs.items() if row in (*rows, CONTROL))


def protocol(*, soft_steps: int, soft_batch: int = 500) -> Protocol:
    """Return the paper's protocol; the length for soft labels depends on the source."""
    soft = Pretraining(
        AdamW(lr=3e-4),
        Cosine(warmup_steps=500),
        augmentation=Dsa(),
        batch=soft_batch,
        steps=soft_steps,
    )
    return replace(PROTOCOL, soft_label=soft)
