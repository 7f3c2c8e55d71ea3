"""Every number of the published protocols, and the sweep between them."""

from dataclasses import replace
from typing import Any

import pytest
from factories import NETWORK, toy_set

from datastill.augment.dsa import Dsa
from datastill.core.errors import ConfigError
from datastill.core.lookup import names
from datastill.core.machine import Machine
from datastill.distilled_set import DistilledSet
from datastill.networks.convnet import ConvNet
from datastill.ops.optimizers import AdamW, Sgd
from datastill.ops.schedules import Constant, Cosine, HalfDrop
from datastill.pretrain import PRETRAINING, Pretraining
from datastill.protocols.protocol import FOLDER, Protocol, protocol
from datastill.transfer.classify import Classify
from datastill.transfer.finetune import Finetune
from datastill.transfer.linear_probe import LinearProbe

PAPER, MKDT = protocol("paper"), protocol("mkdt")
LABELLED, EQUAL = protocol("labelled"), protocol("equal-budget")
KINDS: tuple[Any, ...] = ("representation", "hard-label", "soft-label")


@pytest.mark.parametrize("name", names(FOLDER))
def test_protocol__is_found_by_the_name_that_it_has(name: str) -> None:
    assert protocol(name).name == name and protocol(name).seeds >= 3


def test_protocol__unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"among the protocols; did you mean 'mkdt'\?"):
        protocol("mkd")


def test_paper__has_the_numbers_of_the_paper() -> None:
    assert all(PAPER.pretraining(kind) == PRETRAINING[kind] for kind in KINDS)
    regressing = PAPER.pretraining("representation")
    assert regressing.epochs == 1000 and regressing.steps is None
    assert PAPER.tasks == (Finetune(),)
    task = PAPER.tasks[0]
    assert isinstance(task, Finetune)
    assert (task.lr, task.momentum, task.weight_decay, task.batch) == (0.01, 0.9, 5e-4, 256)
    assert (task.crop_padding, task.flip, task.labels) == (4, True, ("all",))
    assert [task.length(name) for name in ("cifar100", "cifar10", "tiny-imagenet", "cub")] == [
        10_000, 10_000, 10_000, 5_000,
    ]  # fmt: skip


def test_paper__takes_the_network_that_the_set_was_distilled_with() -> None:
    assert PAPER.network(32, NETWORK) == PAPER.network(224, NETWORK) == NETWORK


def test_mkdt__has_the_numbers_of_its_released_code() -> None:
    assert MKDT.pretraining("representation") == Pretraining(
        Sgd(lr=0.1, momentum=0.9, weight_decay=1e-4),
        Constant(),
        augmentation=None,
        batch=256,
        epochs=20,
        steps=None,
        learned_lr=True,
    )
    assert MKDT.tasks == (
        LinearProbe(
            features="body",
            labels=("1%-at-random", "5%-at-random"),
            draws=1,
            solver="lbfgs",
            standardize=False,
            l2=2e-3,
            lbfgs_iterations=400,
        ),
    )


@pytest.mark.parametrize(("size", "blocks"), [(16, 3), (32, 3), (33, 4), (64, 4)])
def test_mkdt__network_is_128_wide_with_instance_norm(size: int, blocks: int) -> None:
    assert MKDT.network(size, NETWORK) == ConvNet(widths=(128,) * blocks, norm="instance")


def test_mkdt__larger_images_are_refused() -> None:
    with pytest.raises(ConfigError, match="at most 64 pixels, got 65"):
        MKDT.network(65, NETWORK)


def test_mkdt__trains_on_labels_as_on_representations_but_for_the_rate_of_soft_ones() -> None:
    representation, hard, soft = (MKDT.pretraining(kind) for kind in KINDS)
    assert hard == replace(representation, learned_lr=False)
    assert soft == replace(hard, optimizer=AdamW(lr=3e-4))


def test_labelled__has_the_numbers_of_the_dc_family() -> None:
    assert LABELLED.pretraining("hard-label") == Pretraining(
        Sgd(lr=0.01, momentum=0.9, weight_decay=5e-4),
        HalfDrop(0.1),
        augmentation=Dsa(),
        batch=256,
        epochs=1000,
        steps=None,
    )
    assert LABELLED.tasks == (Classify(),) and LABELLED.seeds == 5


def test_labelled__trains_on_soft_labels_as_frepo_on_100_images() -> None:
    assert LABELLED.pretraining("soft-label") == Pretraining(
        AdamW(lr=3e-4), Cosine(warmup_steps=500), augmentation=Dsa(), batch=500, steps=2000
    )


@pytest.mark.parametrize(("size", "features"), [(32, 4 * 4 * 128), (64, 4 * 4 * 128)])
def test_labelled__network_is_128_wide_with_instance_norm(size: int, features: int) -> None:
    chosen = LABELLED.network(size, NETWORK)
    assert chosen == ConvNet(widths=(128,), norm="instance")
    assert chosen(image_size=size, channels=3, outputs=10).num_features == features


def test_labelled__is_not_defined_for_representations() -> None:
    with pytest.raises(ConfigError, match="labelled is not defined for sets with representation"):
        LABELLED.pretraining("representation")


def test_equal_budget__kinds_share_updates_batch_and_augmentation() -> None:
    pretrainings = [EQUAL.pretraining(kind) for kind in KINDS]
    shared = {(p.length(1000), p.length(50), p.batch, p.augmentation) for p in pretrainings}
    assert shared == {(4000, 4000, 256, Dsa())}


@pytest.mark.parametrize("kind", KINDS)
def test_equal_budget__keeps_what_belongs_to_the_kind(kind: Any) -> None:
    own, published = EQUAL.pretraining(kind), PRETRAINING[kind]
    assert (own.optimizer, own.schedule) == (published.optimizer, published.schedule)


def test_equal_budget__judges_as_the_paper() -> None:
    assert (EQUAL.tasks, EQUAL.networks) == (PAPER.tasks, PAPER.networks)


@pytest.mark.parametrize(
    ("protocol_", "kind", "epochs", "title"),
    [
        (MKDT, "representation", None, "mkdt"),
        (MKDT, "representation", 20, "mkdt"),
        (MKDT, "representation", 100, "mkdt, 100 epochs"),
        (PAPER, "representation", 1000, "paper"),
        (PAPER, "representation", 20, "paper, 20 epochs"),
        (PAPER, "soft-label", 1000, "paper, 1000 epochs"),  # its own length is 10,000 steps
    ],
)
def test_protocol__title_has_the_epochs_that_are_not_its_own(
    protocol_: Protocol, kind: Any, epochs: int | None, title: str
) -> None:
    assert protocol_.title(kind, epochs) == title


def test_protocol__other_epochs_change_nothing_else() -> None:
    swept = MKDT.pretraining("representation", 300)
    assert swept == replace(MKDT.pretraining("representation"), epochs=300)
    assert PAPER.pretraining("soft-label", 7).steps is None


def test_protocol__origin_is_pre_trained_as_it_says() -> None:
    distilled: DistilledSet = toy_set()
    origin = MKDT.origin(distilled, NETWORK, Machine(), epochs=100)
    assert origin.protocol == "mkdt, 100 epochs" and origin.pretrain_steps == 100
    assert origin.architecture == MKDT.network(8, NETWORK)
    assert origin.options["pretraining"]["optimizer"]["weight_decay"] == 1e-4
    assert PAPER.origin(distilled, NETWORK, Machine()).architecture == NETWORK
