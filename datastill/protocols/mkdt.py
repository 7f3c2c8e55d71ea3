"""MKDT's protocol (Joshi, Ni and Mirzasoleiman, ICLR 2025): 20 epochs, then a probe of few labels.

A ConvNet of 128 channels with instance norm is pre-trained, and a linear classifier is
fitted to its frozen features on 1 % and 5 % of the labels, without augmentation. The numbers are
those of the released code, which has representations only (docs/fidelity.md#mkdt).
"""

from dataclasses import replace

from datastill.networks.convnet import ConvNet
from datastill.ops.optimizers import AdamW, Sgd
from datastill.ops.schedules import Constant
from datastill.pretrain import Pretraining
from datastill.protocols.protocol import Protocol
from datastill.transfer.linear_probe import LinearProbe

PRETRAINING = Pretraining(
    Sgd(lr=0.1, momentum=0.9, weight_decay=1e-4),
    Constant(),
    augmentation=None,
    batch=256,
    epochs=20,
)
REPRESENTATION = replace(PRETRAINING, learned_lr=True)  # as MKDT does with its own sets

PROTOCOL = Protocol(
    name="mkdt",
    networks=(
        (32, ConvNet(widths=(128, 128, 128), norm="instance")),
        (64, ConvNet(widths=(128, 128, 128, 128), norm="instance")),
    ),
    representation=REPRESENTATION,
    hard_label=PRETRAINING,  # ours: the same with cross-entropy
    soft_label=replace(PRETRAINING, optimizer=AdamW(lr=3e-4)),  # ours: FRePo's optimizer
    tasks=(
        LinearProbe(
            features="body",
            labels=("1%-at-random", "5%-at-random"),
            solver="lbfgs",
            l2=2e-3,  # its penalty is 1e-3 · sum of squared weights, without the half
            lbfgs_iterations=400,  # 20 steps of torch's L-BFGS, each of 20 iterations
        ),
    ),
)
