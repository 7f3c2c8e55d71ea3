"""Target training: learns, repeats and resumes."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from factories import NETWORK, equal, killed, logged, toy_images, weights
from ranks import small

from datastill.core.errors import ConfigError, NotFiniteError
from datastill.core.lookup import names
from datastill.core.machine import Machine
from datastill.core.run_folder import RunFolder
from datastill.networks.resnet18 import ResNet18
from datastill.objectives.barlow_twins import BarlowTwins
from datastill.objectives.supervised import Supervised
from datastill.ops.optimizers import AdamW, Lars
from datastill.target_model import TargetModel
from datastill.train_target import TargetTraining, train_target

MODULE = sys.modules["datastill.train_target"]  # the package has a function of that name
STEPS = 6
every_objective = pytest.mark.parametrize("name", names("datastill.objectives"))
TRAINING = TargetTraining(
    architecture=NETWORK,
    outputs=5,
    objective=BarlowTwins(projector=(8, 8)),
    optimizer=AdamW(lr=0.01),
    batch=10,
    steps=STEPS,
    standardize=True,
)


def run(folder: Path, training: TargetTraining = TRAINING) -> TargetModel:
    opened = RunFolder.open(folder, {}, resume=True, checkpoint_seconds=0.0)
    return train_target(toy_images(), training, folder=opened)


@every_objective
def test_train_target__loss_falls(name: str, tmp_path: Path) -> None:
    training = replace(TRAINING, objective=small(name), steps=60, batch=20)
    train_target(toy_images(40), training, folder=tmp_path)
    found = logged(tmp_path, "loss")
    falls_to = {"simclr": 0.97, "vicreg": 0.92}.get(name, 0.8)  # losses that cannot come near zero
    assert sum(found[-10:]) < falls_to * sum(found[:10])


def test_train_target__seed_alone_decides() -> None:
    before = torch.get_rng_state()
    one, same, other = (train_target(toy_images(), TRAINING, seed=s) for s in (1, 1, 0))
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert torch.equal(torch.get_rng_state(), before)


def test_train_target__does_not_look_at_labels() -> None:
    one, other = (train_target(x, TRAINING) for x in (toy_images(), toy_images().unlabelled()))
    assert equal(weights(one.module), weights(other.module))


@every_objective
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_train_target__resumes_bit_for_bit(name: str, after: bool, tmp_path: Path) -> None:
    """With our own optimizer; those of torch are resumed in tests/contracts."""
    training = replace(TRAINING, objective=small(name), optimizer=Lars(lr=0.1))
    whole = train_target(toy_images(), training)
    with killed(MODULE, "_step", 3, after=after):
        run(tmp_path, training)
    assert run(tmp_path, training).fingerprint == whole.fingerprint


@every_objective
def test_train_target__any_objective_works_in_bfloat16(name: str, tmp_path: Path) -> None:
    training = replace(TRAINING, objective=small(name), steps=2)
    train_target(toy_images(), training, machine=Machine("cpu", "bfloat16"), folder=tmp_path / "b")
    train_target(toy_images(), training, folder=tmp_path / "f")
    half, full = (logged(tmp_path / x, "loss")[0] for x in ("b", "f"))
    assert half == pytest.approx(full, rel=0.1) and half != full


def test_train_target__supervised_refuses_images_without_labels(tmp_path: Path) -> None:
    training = replace(TRAINING, objective=Supervised())
    with pytest.raises(
        ConfigError, match=r"supervised objective needs labels .* toy/train has none"
    ):
        train_target(toy_images().unlabelled(), training, folder=tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_train_target__finished_folder_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = run(tmp_path)
    assert TargetModel.load(tmp_path).fingerprint == trained.fingerprint
    assert not list(tmp_path.glob("checkpoint*")) and len(logged(tmp_path, "loss")) == STEPS
    monkeypatch.setattr(MODULE, "_step", None)
    assert run(tmp_path).fingerprint == trained.fingerprint


def test_train_target__folder_of_other_options_is_refused(tmp_path: Path) -> None:
    train_target(toy_images(), TRAINING, folder=tmp_path)
    with pytest.raises(ConfigError, match="batch: 10, now 12"):
        train_target(toy_images(), replace(TRAINING, batch=12), folder=tmp_path)


def test_train_target__keeps_plain_outputs_where_asked() -> None:
    target = train_target(toy_images(), replace(TRAINING, standardize=False))
    assert torch.equal(target.scale, torch.ones(1)) and torch.equal(target.offset, torch.zeros(1))


def test_train_target__without_outputs_gives_features() -> None:
    training = replace(TRAINING, architecture=ResNet18(width=2), outputs=None, steps=1)
    assert train_target(toy_images(), training).dim == 16


def test_train_target__says_how_it_was_made() -> None:
    provenance = train_target(toy_images(), TRAINING, seed=4).provenance
    assert provenance["seed"] == 4 and provenance["source"]["name"] == "toy/train"
    assert provenance["architecture"] == {"name": "convnet", "widths": [4, 8], "norm": "batch"}
    json.dumps(provenance)


def test_train_target__batch_larger_than_the_source_is_refused() -> None:
    with pytest.raises(ConfigError, match="toy/train has 24 images, less than one batch of 25"):
        train_target(toy_images(), replace(TRAINING, batch=25))


def test_train_target__every_batch_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = type(TRAINING.views).__call__

    def watched(self: object, unit: torch.Tensor, generator: torch.Generator) -> object:
        sizes.append(len(unit))
        return original(self, unit, generator)

    monkeypatch.setattr(type(TRAINING.views), "__call__", watched)
    train_target(toy_images(), TRAINING)
    assert sizes == [10] * STEPS


def test_train_target__divergence_names_the_step() -> None:
    with pytest.raises(NotFiniteError, match="target: loss is nan at step"):
        train_target(toy_images(), replace(TRAINING, optimizer=AdamW(lr=1e30), warmup=0.0))


def test_target_training__length_is_that_of_whole_batches() -> None:
    assert replace(TRAINING, steps=None, epochs=3).length(24) == 6
    assert replace(TRAINING, steps=7, epochs=3).length(24) == 7
