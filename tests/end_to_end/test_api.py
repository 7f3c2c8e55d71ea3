"""The Python API as the README shows it."""

from pathlib import Path

import pytest
import torch
from torch import nn

import datastill as ds

NETWORK = ds.ConvNet(widths=(4, 8))


@pytest.fixture
def images(photos: Path) -> ds.ImageSet:
    return ds.source(f"folder:{photos}").load("train", image_size=16)


def test_api__ten_lines(tmp_path: Path) -> None:
    images = ds.source("glyphs").load("train").limit(200, seed=0)
    training = ds.TargetTraining(NETWORK, outputs=8, steps=2, batch=32)
    target = ds.train_target(images, training)
    problem = ds.Problem(images, target, count=10, network=NETWORK)
    method = ds.KRRST(outer_steps=2, outer_batch=32, pool_size=2, max_age=2, flip=False)
    distilled = ds.distill(method, problem)
    distilled.save(tmp_path / "distilled.safetensors")
    network = ds.pretrain(NETWORK, distilled, pretraining=ds.Pretraining(steps=2), seed=0)
    for result in ds.LinearProbe(steps=2, labels=("5-per-class",)).run(network, "digits"):
        assert (result.setting, result.steps) == ("5-per-class, body", 2)
        assert result.accuracy_percent is not None and 0 <= result.accuracy_percent <= 100
    again = ds.DistilledSet.load(tmp_path / "distilled.safetensors")
    assert again.fingerprint == distilled.fingerprint


def test_api__finetune_needs_no_more_than_a_network(photos: Path) -> None:
    network = NETWORK(image_size=16, channels=3, outputs=6)
    (result,) = ds.Finetune(steps=1, batch=8).run(network, f"folder:{photos}", seed=1)
    assert result.accuracy_percent is not None


def test_api__target_data_of_other_channels_are_refused() -> None:
    network = NETWORK(image_size=16, channels=3, outputs=6)
    with pytest.raises(ds.DatastillError, match="takes images of 3 channels"):
        ds.LinearProbe().run(network, "digits")


def test_api__any_module_is_a_target_model(images: ds.ImageSet) -> None:
    module = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(48, 5))
    target = ds.TargetModel(module, images.normalizer, images.image_size)
    problem = ds.Problem(images, target, count=4, network=NETWORK)
    distilled = ds.distill(ds.KRRST(outer_steps=2, outer_batch=8, pool_size=2), problem)
    assert distilled.targets.shape == (4, 5)
    assert not any(p.requires_grad for p in module.parameters())


def test_api__folder_keeps_and_continues_a_run(images: ds.ImageSet, tmp_path: Path) -> None:
    training = ds.TargetTraining(NETWORK, outputs=6, steps=2, batch=16)
    target = ds.train_target(images, training, folder=tmp_path / "target")
    again = ds.train_target(images, training, folder=tmp_path / "target")
    assert again.fingerprint == target.fingerprint
    problem = ds.Problem(images, target, count=4, network=NETWORK)
    distilled = ds.distill(ds.RandomSubset(), problem, folder=str(tmp_path / "set"))
    assert ds.DistilledSet.load(tmp_path / "set").fingerprint == distilled.fingerprint
    with pytest.raises(ds.DatastillError, match="seed: 0, now 1"):
        other = ds.Problem(images, target, count=4, network=NETWORK, seed=1)
        ds.distill(ds.RandomSubset(), other, folder=tmp_path / "set")


def test_api__distilled_set_is_a_torch_dataset(made: Path) -> None:
    distilled = ds.DistilledSet.load(made / "set")
    loader = torch.utils.data.DataLoader(distilled, batch_size=3)
    shapes = [(tuple(x.shape), tuple(y.shape)) for x, y in loader]
    assert shapes == [((3, 3, 16, 16), (3, 6)), ((2, 3, 16, 16), (2, 6))]
