"""The usual protocol with class labels: train from scratch on the set, test on its source.

Zhao, Mopuri and Bilen (ICLR 2021) and Zhao and Bilen (ICML 2021): a ConvNet of 128 channels with
instance norm, 1,000 epochs with differentiable Siamese augmentation, and the network's own
outputs on the test split. Sets of soft labels are trained on as FRePo's released code does
(docs/fidelity.md#labelled).
"""

from datastill.augment.dsa import Dsa
from datastill.networks.convnet import ConvNet
from datastill.ops.optimizers import AdamW, Sgd
from datastill.ops.schedules import Cosine, HalfDrop
from datastill.pretrain import Pretraining
from datastill.protocols.protocol import Protocol
from datastill.transfer.classify import Classify

NETWORK = ConvNet(widths=(128,), norm="instance")

PROTOCOL = Protocol(
    name="labelled",
    networks=((128, NETWORK),),  # 3 blocks to 32 pixels, 4 to 64, 5 to 128
    representation=None,  # such networks do not predict classes
    hard_label=Pretraining(
        Sgd(lr=0.01, momentum=0.9, weight_decay=5e-4),
        HalfDrop(0.1),
        augmentation=Dsa(),
        batch=256,
        epochs=1000,
    ),
    soft_label=Pretraining(
        AdamW(lr=3e-4),
        Cosine(warmup_steps=500),
        augmentation=Dsa(),
        batch=500,
        steps=2000,  # FRePo's for 100 images
    ),
    tasks=(Classify(),),
    seeds=5,
)
