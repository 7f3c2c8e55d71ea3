"""Data-free distillation: its loss, what the student and teacher see, and exact resume."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from factories import NETWORK, always_saving, equal, killed, toy_network, toy_set, toy_task, weights
from torch import Tensor

from datastill.augment.dsa import Dsa
from datastill.core.errors import ConfigError
from datastill.core.run_folder import RunFolder
from datastill.images import ImageSet
from datastill.networks.architecture import Network
from datastill.transfer import data_free_kd
from datastill.transfer._supervised import Supervised
from datastill.transfer.data_free_kd import DataFreeKd
from datastill.transfer.task import TaskContext

TASK = DataFreeKd(
    epochs=2,
    batch=8,
    noise_count=12,
    teacher_width=2,
    teacher_steps=4,
    teacher_batch=8,
    teacher_crop_padding=0,
)
STEPS = 4  # two epochs of 12 images, 8 at a time


def a_context(folder: Path | None = None, **changes: Any) -> TaskContext:
    context = TaskContext(toy_network(), NETWORK, seed=0, distilled=toy_set(12))
    if folder is not None:
        opened = RunFolder(folder, checkpoint_seconds=0.0)
        context = replace(context, folder=opened, saving=always_saving(folder))
    return replace(context, **changes)


class Seen:
    """Keeps the students, what they were shown, and the modes of the networks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.images: list[Tensor] = []
        self.students: list[Network] = []
        self.teachers: list[Network] = []
        self.tested_in_train_mode: list[bool] = []
        draw, learn, predict = DataFreeKd._images, DataFreeKd._learn, ImageSet.predict

        def keep_images(*args: Any) -> Tensor:
            self.images.append(draw(*args))
            return self.images[-1]

        def keep_networks(task: DataFreeKd, context: Any, *args: Any) -> Network:
            self.teachers.append(context.teacher)
            self.students.append(learn(task, context, *args))
            return self.students[-1]

        def keep_mode(images: ImageSet, network: Network, *args: Any, **options: Any) -> Tensor:
            self.tested_in_train_mode.append(network.training)
            return predict(images, network, *args, **options)

        monkeypatch.setattr(DataFreeKd, "_images", keep_images)
        monkeypatch.setattr(DataFreeKd, "_learn", keep_networks)
        monkeypatch.setattr(ImageSet, "predict", keep_mode)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    return Seen(monkeypatch)


def test_data_free_kd__defaults_are_those_of_the_released_code() -> None:
    task = DataFreeKd()
    assert (task.epochs, task.batch, task.lr, task.noise_lr) == (1000, 512, 1e-4, 1e-3)
    assert task.strategies == Dsa().strategies and task.batch_norm == "eval"
    assert (task.teacher_width, task.noise_count) == (64, 2000)


@pytest.mark.parametrize("batch_norm", ["eval", "train"])
def test_data_free_kd__one_step_is_adam_on_the_soft_cross_entropy(
    batch_norm: Any, seen: Seen
) -> None:
    task = replace(TASK, epochs=1, batch=12, batch_norm=batch_norm, strategies=())
    context = a_context()
    task.measure(context, toy_task())
    fresh = data_free_kd.with_new_head(context, toy_task()).train()
    before = [p.detach().clone() for p in fresh.parameters()]
    assert context.distilled is not None
    x = context.distilled.network_input()
    teacher = task._teacher().make(a_context(), toy_task()).train(batch_norm == "train")
    p = teacher(x).softmax(1).detach()
    loss = -(p * fresh(x).log_softmax(1)).sum(1).mean()
    gradients = torch.autograd.grad(loss, list(fresh.parameters()))
    for parameter, old, g in zip(seen.students[0].parameters(), before, gradients, strict=True):
        moved = g.abs() > 1e-5  # Adam's first step is the rate, in the direction of the sign
        expected = (old - 1e-4 * g.sign())[moved]
        torch.testing.assert_close(parameter.detach()[moved], expected, atol=2e-6, rtol=0)


def test_data_free_kd__rate_follows_a_cosine_over_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    step = DataFreeKd._step

    def keep(task: DataFreeKd, context: Any, state: Any, number: int) -> Any:
        metrics = step(task, context, state, number)
        rates.append(state.optimizer.param_groups[0]["lr"])
        return metrics

    monkeypatch.setattr(DataFreeKd, "_step", keep)
    (result,) = TASK.measure(a_context(), toy_task())
    assert rates == pytest.approx([1e-4, 1e-4, 0.5e-4, 0.5e-4]) and result.steps == STEPS


def test_data_free_kd__student_sees_distilled_images_as_networks_take_them(seen: Seen) -> None:
    context = a_context()
    replace(TASK, strategies=()).measure(context, toy_task())
    assert context.distilled is not None
    shown = torch.cat(seen.images[:2]).flatten(1).unique(dim=0)
    assert torch.equal(shown, context.distilled.network_input().flatten(1).unique(dim=0))


def test_data_free_kd__without_a_set_there_is_fresh_noise(seen: Seen) -> None:
    task = replace(TASK, batch=256, noise_count=512, epochs=1, strategies=("rotate",))
    (result,) = task.measure(a_context(distilled=None), toy_task())
    noise = torch.cat(seen.images)
    assert result.steps == 2 and noise.shape == (512, 1, 8, 8)
    assert abs(float(noise.mean())) < 0.03 and abs(float(noise.std()) - 1) < 0.03
    assert not torch.equal(seen.images[0], seen.images[1])


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_data_free_kd__switch_decides_whose_statistics_are_used(mode: Any, seen: Seen) -> None:
    (result,) = replace(TASK, batch_norm=mode).measure(a_context(), toy_task())
    assert seen.teachers[0].training == (mode == "train")
    assert seen.tested_in_train_mode[-1] == (mode == "train")
    assert result.setting == ("batch norm of the batch" if mode == "train" else "")


def test_data_free_kd__teacher_is_trained_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    train = Supervised.train

    def count(*args: Any, **options: Any) -> Network:
        trained.append(options["name"])
        return train(*args, **options)

    monkeypatch.setattr(Supervised, "train", count)
    for seed in (0, 1):
        TASK.measure(a_context(tmp_path, seed=seed, saving=None), toy_task())
    TASK.measure(a_context(tmp_path, distilled=None, saving=None), toy_task())
    assert trained == ["teacher"]
    replace(TASK, teacher_seed=1).measure(a_context(tmp_path, saving=None), toy_task())
    assert trained == ["teacher", "teacher"]
    assert len(list(tmp_path.glob("teacher-*.safetensors"))) == 2
    assert len((tmp_path / "teachers.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("step", [0, 3])
@pytest.mark.parametrize("owner", [Supervised, DataFreeKd], ids=["teacher", "student"])
def test_data_free_kd__resumes_bit_for_bit(
    tmp_path: Path, seen: Seen, owner: type, step: int
) -> None:
    uninterrupted = TASK.measure(a_context(), toy_task())
    with killed(owner, "_step", step):
        TASK.measure(a_context(tmp_path), toy_task())
    assert TASK.measure(a_context(tmp_path), toy_task()) == uninterrupted
    assert equal(weights(seen.students[0]), weights(seen.students[-1]))
    assert not list(tmp_path.glob("checkpoint-teacher*"))


def test_data_free_kd__images_too_small_for_the_teacher_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs images of at least 8 pixels, got 4"):
        TASK.check(toy_task(size=4))


def test_data_free_kd__never_touches_the_training_images_of_the_student(seen: Seen) -> None:
    data = toy_task()
    assert data.train.labels is not None
    context, plain = a_context(), replace(TASK, teacher_steps=1, teacher_lr=1e-12)
    other = ImageSet("toy/train", 255 - data.train.images, data.train.normalizer, data.train.labels)
    for train in (data.train, replace(other, classes=data.train.classes)):
        plain.measure(context, replace(data, train=train))
    assert torch.equal(torch.cat(seen.images[:STEPS]), torch.cat(seen.images[STEPS:]))
