"""Equal budgets: every kind of set gets the same updates, batch and augmentation, then fine-tuning.

The published budgets differ: methods of soft labels pre-train 2.5 times longer than the others, and
all but KRR-ST with augmentation. Here only loss, optimizer, learning rate and schedule
depend on the kind of targets (docs/fidelity.md#equal-budget).
"""

from dataclasses import replace

from datastill.augment.dsa import Dsa
from datastill.distilled_set import TargetKind
from datastill.pretrain import PRETRAINING, Pretraining
from datastill.protocols.protocol import Protocol
from datastill.transfer.finetune import Finetune

STEPS = 4000  # 1,000 epochs of 1,000 images, which KRR-ST and the DC family have in Table 1
BATCH = 256


def equal(kind: TargetKind) -> Pretraining:
    """Return the published pre-training of that kind, with the length of all others."""
    return replace(PRETRAINING[kind], augmentation=Dsa(), batch=BATCH, steps=STEPS)


PROTOCOL = Protocol(
    name="equal-budget",
    networks=(),
    representation=equal("representation"),
    hard_label=equal("hard-label"),
    soft_label=equal("soft-label"),
    tasks=(Finetune(),),
)
