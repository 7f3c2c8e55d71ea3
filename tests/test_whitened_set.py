"""Distilled sets in whitened pixels: saved with their whitening, which target data go through."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from factories import toy_images, toy_network, toy_set, toy_task

from datastill.core.errors import ArtefactError, ConfigError
from datastill.distilled_set import DistilledSet
from datastill.transfer.knn_probe import KnnProbe
from datastill.transfer.task import TaskData


def whitened_set() -> DistilledSet:
    plain = toy_set()
    normalizer = toy_images().whitened(0.1).normalizer
    images = normalizer(plain.images)
    return replace(plain, images=images, pixel_space="normalized", normalizer=normalizer)


def test_whitened_set__survives_its_file(tmp_path: Path) -> None:
    made = whitened_set()
    made.save(tmp_path / "distilled.safetensors")
    loaded = DistilledSet.load(tmp_path)
    one, other = made.normalizer.zca, loaded.normalizer.zca
    assert one is not None and other is not None and one.fingerprint == other.fingerprint
    assert loaded.fingerprint == made.fingerprint
    assert loaded.describe()["whitened"] and not toy_set().describe()["whitened"]


def test_whitened_set__shows_the_pixels_it_was_made_of() -> None:
    assert torch.allclose(whitened_set().unit_pixels(), toy_set().unit_pixels(), atol=1e-4)


def test_whitened_set__whitening_of_another_size_is_refused() -> None:
    normalizer = toy_images(size=16).whitened(0.1).normalizer
    with pytest.raises(ArtefactError, match="whitening is of 256 values"):
        replace(toy_set(), normalizer=normalizer)


def test_whitened__second_time_starts_from_z_scores() -> None:
    once = toy_images().whitened(0.1)
    one, other = once.normalizer.zca, once.whitened(0.1).normalizer.zca
    assert one is not None and other is not None and one.fingerprint == other.fingerprint


def test_whitened__large_images_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"matrix of 16384x16384.*turn whitening off"):
        toy_images(2, size=128).whitened(0.1)


def test_task_data__is_fed_through_the_whitening_of_the_set() -> None:
    task, made = toy_task(), whitened_set()
    fed = task.whitened_by(made.normalizer)
    assert fed.train.normalizer is made.normalizer and fed.test.normalizer is made.normalizer
    assert task.whitened_by(toy_set().normalizer) is task and task.whitened_by(None) is task


def test_task__judges_a_network_in_whitened_pixels() -> None:
    """Written out: the network sees the test images as the distilled set's whitening gives them."""
    task, made, probe = toy_task(), whitened_set(), KnnProbe()
    by_hand = TaskData(
        task.name, *(x.with_normalizer(made.normalizer) for x in (task.train, task.test))
    )
    found = probe.run(toy_network(), task, distilled=made)
    assert found == probe.run(toy_network(), by_hand)
