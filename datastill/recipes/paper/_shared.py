"""What the paper's tables share (Lee et al., ICLR 2024, section 5; released train.py, test.py).

The rows of methods that have no file in `datastill/methods` yet are not part of the recipes; all
other numbers are the paper's, or the released code's where the paper is silent
(docs/fidelity.md#paper-recipes).
"""

from dataclasses import replace

from datastill.augment.dsa import Dsa
from datastill.maths.optimizers import AdamW
from datastill.maths.schedules import Cosine
from datastill.methods.krr_st import KRRST
from datastill.methods.random_subset import RandomSubset
from datastill.pretrain import Pretraining
from datastill.protocols._base import Protocol
from datastill.protocols.paper import PROTOCOL
from datastill.recipes._base import Sets
from datastill.train_target import TargetTraining

SEEDS = 3  # networks per row, each pre-trained anew on one fixed set
FINE_GRAINED = ("aircraft", "cars", "cub", "dogs", "flowers")
TARGET = TargetTraining()  # ResNet-18 by Barlow Twins; how it was trained was not released


TABLE_1 = ("random", "k-means", "dsa", "dm", "mtt", "kip", "frepo", "krr-st")
TABLE_2 = tuple(row for row in TABLE_1 if row != "kip")  # of Figure 3 and Table 4, too
TABLE_3 = ("random", "frepo", "krr-st")
CONTROL = "random images with KRR-ST's targets"  # ours: what distillation adds is beyond it


def sets(rows: tuple[str, ...], count: int, *, outer_lr: float) -> tuple[Sets, ...]:
    """The rows of a table for which there is a method here, and the control."""
    made = {
        "random": Sets(RandomSubset(targets="class-label"), count),
        CONTROL: Sets(RandomSubset(), count),
        "krr-st": Sets(KRRST(outer_lr=outer_lr), count),
    }
    return tuple(found for row, found in made.items() if row in (*rows, CONTROL))


def protocol(*, soft_steps: int, soft_batch: int = 500) -> Protocol:
    """The paper's protocol; the length for soft labels (KIP, FRePo) depends on the source."""
    soft = Pretraining(
        AdamW(lr=3e-4),
        Cosine(warmup_steps=500),
        augmentation=Dsa(),
        batch=soft_batch,
        steps=soft_steps,
    )
    return replace(PROTOCOL, soft_label=soft)
