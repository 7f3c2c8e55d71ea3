"""The contract of every file in datastill/transfer, asked of toy data."""

import dataclasses
from dataclasses import replace

import pytest
import torch
from factories import (
    equal,
    measured,
    toy_images,
    toy_network,
    toy_problem,
    toy_set,
    toy_task,
    weights,
)

from datastill.core.errors import ConfigError, DataError
from datastill.core.lookup import find, names
from datastill.core.options import from_json, options, to_json
from datastill.distill import distill
from datastill.images import ImageSet
from datastill.methods.random_subset import RandomSubset
from datastill.transfer.knn_probe import KnnProbe
from datastill.transfer.task import Task, TaskData

FOLDER = "datastill.transfer"
SMALL = {"steps": 6, "batch": 8, "crop_padding": 1, "k": 3, "epochs": 2, "noise_count": 16}
SMALL |= {"teacher_steps": 6, "teacher_batch": 8, "teacher_width": 2, "teacher_crop_padding": 0}
LONGER: dict[str, float] = {"steps": 60, "teacher_steps": 30, "teacher_lr": 0.05, "epochs": 30}
every_task = pytest.mark.parametrize("task", names(FOLDER), indirect=True)
every_training_task = pytest.mark.parametrize(
    "task", [n for n in names(FOLDER) if not find(FOLDER, n).evaluates_outputs], indirect=True
)
every_task_by_labels = pytest.mark.parametrize(
    "task", [n for n in names(FOLDER) if hasattr(find(FOLDER, n)(), "labels")], indirect=True
)


@pytest.fixture
def task(request: pytest.FixtureRequest) -> Task:
    task = find(FOLDER, request.param)()
    assert isinstance(task, Task)
    return with_options(task, SMALL)


def with_options(task: Task, values: dict[str, float]) -> Task:
    """The task with those of the values for which it has an option."""
    fields = {f.name for f in dataclasses.fields(task)}
    return replace(task, **{k: v for k, v in values.items() if k in fields})


@every_task
def test_every_task__seed_alone_decides_and_nothing_else_changes(task: Task) -> None:
    data, network = toy_task(), toy_network(outputs=4)
    before = data.train.fingerprint, data.test.images.clone(), weights(network)
    generator = torch.get_rng_state()
    results = measured(task, data=data, network=network, seed=3)
    assert results
    for result in results:
        assert result.accuracy_percent is not None and 0 <= result.accuracy_percent <= 100
    assert torch.equal(torch.get_rng_state(), generator)
    assert ImageSet.fingerprint.func(data.train) == before[0]
    assert torch.equal(data.test.images, before[1]) and equal(weights(network), before[2])
    assert all(p.grad is None for p in network.parameters())
    assert results == measured(task, data=data, network=network, seed=3)


@every_training_task
def test_every_task__training_labels_matter(task: Task) -> None:
    data = toy_task(48)
    assert data.train.labels is not None
    trained = with_options(task, LONGER | ({"lr": 0.01} if task.trains_on_distilled else {}))
    wrong = replace(data, train=replace(data.train, labels=(data.train.labels + 1) % 4))
    right, shifted = (
        measured(trained, data=d, distilled=toy_set(24))[0].accuracy_percent for d in (data, wrong)
    )
    assert right is not None and shifted is not None and right > shifted + 40


@every_task_by_labels
def test_every_task__settings_do_not_influence_each_other(task: Task) -> None:
    labels = ("1-per-class", "50%", "all")
    results = measured(replace(task, **{"labels": labels}))
    settings = [result.setting for result in results]
    assert len(set(settings)) == 3
    assert settings[0].startswith("1-per-class") and settings[1].startswith("50%")
    assert measured(replace(task, **{"labels": ("50%",)})) == [results[1]]


@every_task_by_labels
def test_every_task__class_with_too_few_images_is_refused(task: Task) -> None:
    with pytest.raises(DataError, match=r"class class-0 has 6 .* fewer than the 7 that"):
        measured(replace(task, **{"labels": ("7-per-class",)}))


@every_task_by_labels
@pytest.mark.parametrize("labels", ["some", "5", "per-class", "-1-per-class", "0-per-class", "%"])
def test_every_task__strange_labels_are_refused(task: Task, labels: str) -> None:
    with pytest.raises(ConfigError, match="expected all, a share such as 10%, or 5-per-class"):
        replace(task, **{"labels": (labels,)})


@every_task
def test_every_task__class_without_any_image_is_refused(task: Task) -> None:
    data = toy_task()
    assert data.train.labels is not None
    left = data.train.take((data.train.labels != 2).nonzero()[:, 0])
    with pytest.raises(DataError, match="class class-2 has 0 training images"):
        task.check(replace(data, train=left))


@every_task
def test_every_task__data_of_another_size_are_refused(task: Task) -> None:
    with pytest.raises(ConfigError, match="takes images of 8 pixels, toy has 16"):
        task.run(toy_network(), toy_task(size=16))


@every_task
def test_every_task__distilled_set_of_another_size_is_refused(task: Task) -> None:
    distilled = distill(RandomSubset(), toy_problem(images=toy_images(size=16)))
    with pytest.raises(ConfigError, match="distilled images have 16 pixels and 1 channels, toy 8"):
        task.run(toy_network(outputs=4), toy_task(), distilled=distilled)


@every_task
def test_every_task__options_survive_json_and_are_explained(task: Task) -> None:
    assert from_json(type(task), to_json(task)) == task
    assert all(option.help for option in options(task))


def test_check_network__other_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match="takes images of 1 channels, toy has 3"):
        KnnProbe().check_network(toy_network(), toy_task(channels=3))


def test_task_data__unlabelled_images_are_refused() -> None:
    with pytest.raises(DataError, match=r"toy has no labels; a task needs class folders"):
        TaskData("toy", toy_images().unlabelled(), toy_images())
