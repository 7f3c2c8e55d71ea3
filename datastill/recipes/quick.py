"""Fonts to handwriting: all of KRR-ST on embedded data, offline, in minutes on a laptop.

Source: unlabelled glyphs of matplotlib's fonts. Target data: scikit-learn's handwritten digits.
Settings were chosen on a validation part of the training digits (docs/fidelity.md#quick).
"""

from datastill.augment.views import TwoViews
from datastill.experiments.recipe import DistillationSpec, Recipe
from datastill.methods.full_source import FullSource
from datastill.methods.krr_st import KRRST
from datastill.methods.label_solve import LabelSolve
from datastill.methods.random_subset import RandomSubset
from datastill.networks.convnet import ConvNet
from datastill.objectives.barlow_twins import BarlowTwins
from datastill.ops.optimizers import AdamW
from datastill.protocols.protocol import custom_protocol
from datastill.stored_form.compression import Compression
from datastill.train_target import TargetTraining
from datastill.transfer.finetune import Finetune
from datastill.transfer.linear_probe import LinearProbe

NETWORK = ConvNet(widths=(32, 64, 128))
FEW = ("1-per-class", "5-per-class", "10-per-class")


def recipe() -> Recipe:
    """Return the recipe: 50 distilled images, 107 coded ones in 8 kB, five networks per row."""
    krr_st = KRRST(
        outer_steps=500,
        outer_batch=512,
        outer_lr=0.02,
        target_lr=0.03,
        pool_size=5,
        max_age=100,
        crop_padding=0,
        flip=False,  # a mirrored letter is another letter
        bank="full",
        bank_precision="float32",
    )
    label_solve = LabelSolve(
        inner_models=4, max_age=300, real_images=4000, bank="full", bank_precision="float32"
    )
    # An eighth of the file of 50 images in float32; WebP, which every Pillow has. Count and
    # components are those that `distill --bytes 8kB` chooses from the source alone.
    coded = Compression(bytes=8_000, codec="webp", components=16)
    return Recipe(
        name="quick",
        source="glyphs",
        image_size=16,
        target=TargetTraining(
            architecture=NETWORK,
            outputs=64,
            objective=BarlowTwins(projector=(256, 256)),
            views=TwoViews(
                crop_scale_min=0.6,
                flip=0.0,
                rotate_degrees=10.0,
                shift=0.05,
                grayscale=0.0,
                invert=0.5,
                noise_std=0.03,
            ),
            optimizer=AdamW(lr=2e-3, weight_decay=1e-4),
            steps=800,
            standardize=True,
        ),
        network=NETWORK,
        sets=(
            DistillationSpec(RandomSubset(), 50, number=5),
            DistillationSpec(krr_st, 50),
            DistillationSpec(RandomSubset(), 107, number=5, compression=coded),
            DistillationSpec(label_solve, 107, compression=coded),
            DistillationSpec(FullSource(), "all"),
        ),
        data=("digits",),
        protocols=(
            custom_protocol(
                LinearProbe("output", FEW, draws=5, solver="lbfgs", standardize=True),
                LinearProbe("body", FEW, draws=5, solver="lbfgs", standardize=True),
                Finetune(labels=("5-per-class",), steps=100, batch=64, crop_padding=0, flip=False),
                pretrain_steps=200,
            ),
        ),
        seeds=5,
        probe_every=100,
    )
