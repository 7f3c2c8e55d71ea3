"""Fine-tuning starts from the pre-trained body, and resumes exactly."""

from dataclasses import replace
from pathlib import Path

import pytest
from factories import (
    NETWORK,
    KilledError,
    always_saving,
    equal,
    killed,
    measured,
    toy_images,
    toy_network,
    toy_task,
    weights,
)
from torch import Tensor

from datastill.networks.architecture import Network
from datastill.transfer._supervised import Supervised
from datastill.transfer.finetune import Finetune
from datastill.transfer.task import TaskContext

FINETUNE = Finetune(steps=6, batch=8, crop_padding=1)


@pytest.mark.parametrize("step", [0, 3, 5])
def test_finetune__resumes_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    trained: list[list[Tensor]] = []
    original = Finetune._train

    def keep(*args: object) -> Network:
        network = original(*args)
        trained.append(weights(network))
        return network

    monkeypatch.setattr(Finetune, "_train", keep)
    context = TaskContext(toy_network(), NETWORK, seed=0)
    FINETUNE.measure(context, toy_task())
    saved = replace(context, saving=always_saving(tmp_path))
    with killed(Supervised, "_step", step):
        FINETUNE.measure(saved, toy_task())
    FINETUNE.measure(saved, toy_task())
    assert equal(*trained)


def test_finetune__resumes_among_several_settings(tmp_path: Path) -> None:
    several = replace(FINETUNE, labels=("2-per-class", "all"))
    context = TaskContext(toy_network(), NETWORK, seed=0, saving=always_saving(tmp_path))
    with killed(Supervised, "_step", 9):
        several.measure(context, toy_task())
    assert several.measure(context, toy_task()) == measured(several)


def test_finetune__starts_from_the_pre_trained_body(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Network] = []

    def keep(*args: object) -> dict[str, Tensor]:
        seen.append(args[2].network)
        raise KilledError

    monkeypatch.setattr(Supervised, "_step", keep)
    network = toy_network(seed=9)
    with pytest.raises(KilledError):
        measured(FINETUNE, network=network)
    assert equal(weights(seen[0].body), weights(network.body)) and seen[0].outputs == 4


def test_finetune__trains_the_body_too() -> None:
    network = toy_network()
    context = TaskContext(network, NETWORK, seed=0)
    tuned = FINETUNE._train(context, toy_images(), toy_task())
    assert not equal(weights(tuned.body), weights(network.body))
    assert not tuned.training


@pytest.mark.parametrize(
    ("name", "steps"),
    [("cifar10", 10_000), ("cifar100", 10_000), ("tiny-imagenet", 10_000)]
    + [(name, 5_000) for name in ("aircraft", "cars", "cub", "dogs", "flowers", "digits")],
)
def test_finetune__is_as_long_as_the_papers_for_that_data(name: str, steps: int) -> None:
    assert Finetune().length(name) == steps
    assert Finetune(steps=7).length(name) == 7
