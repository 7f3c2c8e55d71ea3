"""KRR-ST's protocol (Lee et al., ICLR 2024): 1,000 epochs, then the whole network is fine-tuned.

The network is the one that the set was distilled with. Sets of labels are pre-trained on as their
methods prescribe (docs/fidelity.md#pre-training).
"""

from datastill.pretrain import PRETRAINING
from datastill.protocols.protocol import Protocol
from datastill.transfer.finetune import Finetune

PROTOCOL = Protocol(
    name="paper",
    networks=(),
    representation=PRETRAINING["representation"],
    hard_label=PRETRAINING["hard-label"],
    soft_label=PRETRAINING["soft-label"],
    tasks=(Finetune(),),
)
