"""The target model: frozen, standardized where asked, the same after saving."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from factories import NETWORK, equal, toy_images, toy_target, weights
from torch import Tensor, nn

from datastill.core.errors import ConfigError
from datastill.images import ImageSet
from datastill.networks.resnet18 import ResNet18
from datastill.target_model import TargetModel


@pytest.fixture
def images() -> ImageSet:
    return toy_images()


@pytest.fixture
def target(images: ImageSet) -> TargetModel:
    return toy_target(images)


def test_target_model__comes_back_with_the_same_fingerprint(
    target: TargetModel, tmp_path: Path
) -> None:
    target.save(tmp_path)
    loaded = TargetModel.load(tmp_path)
    assert loaded.fingerprint == target.fingerprint
    assert loaded.describe() == target.describe()
    assert loaded.architecture == NETWORK


def test_target_model__without_head_comes_back(images: ImageSet, tmp_path: Path) -> None:
    architecture = ResNet18(width=4)
    network = architecture(image_size=8, channels=1, outputs=None)
    target = TargetModel(network, images.normalizer, 8, architecture=architecture)
    target.save(tmp_path)
    loaded = TargetModel.load(tmp_path)
    assert loaded.dim == 32 and loaded.fingerprint == target.fingerprint


def mean_of_halves(x: Tensor) -> Tensor:
    return x.flatten(1).unflatten(1, (2, -1)).mean(2)


class Halves(nn.Module):
    """Means of the upper and the lower half; no parameters, no architecture."""

    def forward(self, x: Tensor) -> Tensor:
        return mean_of_halves(x)


def test_target_model__takes_any_module(images: ImageSet) -> None:
    target = TargetModel(Halves(), images.normalizer, 8)
    expected = mean_of_halves(images.normalized(slice(None)))
    torch.testing.assert_close(target.represent_images(images), expected)
    assert target.dim == 2


def test_target_model__any_module_is_refused_when_saved(images: ImageSet, tmp_path: Path) -> None:
    target = TargetModel(Halves(), images.normalizer, 8)
    with pytest.raises(ConfigError, match="only a target model with an architecture"):
        target.save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_target_model__standardized_outputs_have_mean_0_and_deviation_1(images: ImageSet) -> None:
    g = TargetModel(Halves(), images.normalizer, 8).standardized(images).represent_images(images)
    torch.testing.assert_close(g.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(g.std(0), torch.ones(2), atol=1e-5, rtol=0)


def test_target_model__standardizing_twice_changes_nothing(
    target: TargetModel, images: ImageSet
) -> None:
    again = target.standardized(images)
    assert torch.equal(again.offset, target.offset) and torch.equal(again.scale, target.scale)


def test_target_model__fingerprint_covers_weights_scale_and_normalizer(
    target: TargetModel, images: ImageSet
) -> None:
    other = toy_target(images, seed=1)
    scaled = replace(target, scale=target.scale * 2)
    shifted = replace(target, normalizer=toy_images(16).normalizer)
    found = {x.fingerprint for x in (target, other, scaled, shifted)}
    assert len(found) == 4


def test_target_model__batches_do_not_matter(target: TargetModel, images: ImageSet) -> None:
    whole, parts = (target.represent_images(images, batch=b) for b in (512, 5))
    torch.testing.assert_close(whole, parts, atol=1e-5, rtol=1e-5)


def test_target_model__is_frozen_and_in_evaluation_mode(images: ImageSet) -> None:
    network = NETWORK(image_size=8, channels=1, outputs=3).train()
    target = TargetModel(network, images.normalizer, 8)
    before = weights(network)
    g = target.represent_images(images)
    assert equal(weights(network), before) and not network.training
    assert not g.requires_grad and not any(p.requires_grad for p in network.parameters())


def test_target_model__uses_its_own_normalizer(target: TargetModel, images: ImageSet) -> None:
    other = replace(images, normalizer=toy_images(16).normalizer)
    assert torch.equal(target.represent_images(other), target.represent_images(images))
