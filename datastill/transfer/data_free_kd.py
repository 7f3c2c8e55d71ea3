"""Knowledge distillation without target data (KRR-ST, Lee et al., ICLR 2024, Table 4).

The teacher is trained on the target data; settings are those of the released code. The student
starts from the body that was pre-trained on a distilled set, and learns the teacher's outputs on
the distilled images. Without a distilled set, both get Gaussian noise.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from datastill.augment.crop_flip import CropFlip
from datastill.augment.dsa import Dsa
from datastill.batches import Batches
from datastill.core.loop import run_steps
from datastill.core.options import option
from datastill.core.rng import fork
from datastill.networks.architecture import Network
from datastill.networks.resnet18 import ResNet18
from datastill.networks.train_step import train_step
from datastill.ops.metrics import accuracy_percent
from datastill.ops.optimizers import AdamW, Sgd
from datastill.ops.schedules import Cosine, set_learning_rates
from datastill.transfer._labels import check_enough, labels_of
from datastill.transfer._supervised import Supervised, with_new_head
from datastill.transfer._teacher import Teacher
from datastill.transfer.task import Task, TaskContext, TaskData, TaskResult


@dataclass
class DataFreeKdState:
    """Everything that changes while the student learns; a checkpoint stores all of it."""

    student: Network
    optimizer: torch.optim.Optimizer
    batches: Batches
    views: Generator  # of augmentation, or of noise


@dataclass(frozen=True, eq=False)
class KDContext:
    """Everything that is fixed while the student learns."""

    context: TaskContext
    teacher: Network
    pixels: Tensor | None  # (M, C, H, W) as networks take them; None: noise
    count: int  # images per epoch


@dataclass(frozen=True)
class DataFreeKd(Task):
    """Train a student on a teacher's outputs for distilled images, and report its test accuracy.

    The loss is the cross-entropy to the teacher's softmax (temperature 1) on augmented distilled
    images; the optimizer is AdamW. The teacher is a ResNet-18 trained on the target data.

    Args:
        epochs: Passes over the distilled images.
        batch: Images per update, and per batch of the test.
        lr: AdamW learning rate, cosine over the epochs.
        noise_lr: The same where the images are noise.
        noise_count: Images per epoch where they are noise.
        strategies: DSA augmentations, one of which is drawn per batch; empty: none.
        batch_norm: "eval": running statistics; "train": those of the batch, for the teacher and for
            the test of the student.
        teacher_width: Channels of the first stage of the ResNet-18.
        teacher_seed: Seed of the one teacher of all students.
        teacher_steps: SGD updates of the teacher, cosine.
        teacher_batch: Images per update of the teacher.
        teacher_lr: SGD learning rate of the teacher.
        teacher_momentum: SGD momentum of the teacher.
        teacher_weight_decay: SGD weight decay of the teacher.
        teacher_crop_padding: Random crops for the teacher; 0: none.
        teacher_flip: Whether the teacher's images are flipped at random.

    Raises:
        ConfigError: An option is outside its range, or a strategy is unknown.

    Example:
        >>> import datastill as ds
        >>> network = ds.ConvNet(widths=(4,))(image_size=16, channels=1, outputs=5)
        >>> task = ds.DataFreeKd(epochs=1, noise_count=8, teacher_width=2, teacher_steps=1)
        >>> (result,) = task.run(network, "digits")
        >>> result.steps
        1
    """

    trains_on_distilled: ClassVar[bool] = True

    epochs: int = option(1000, "passes over the distilled images", at_least=1, smoke=2)
    batch: int = option(512, "images per update, and per test batch", at_least=1, smoke=8)
    lr: float = option(1e-4, "AdamW learning rate, cosine over epochs", above=0)
    noise_lr: float = option(1e-3, "the same, on noise", above=0)
    noise_count: int = option(2000, "images per epoch of noise", at_least=1, smoke=8)
    strategies: tuple[str, ...] = option(
        Dsa().strategies, "one DSA strategy per batch of these; none: no augmentation"
    )
    batch_norm: Literal["eval", "train"] = option(
        "eval", "statistics of a teacher that teaches and of a tested student; train: the batch's"
    )
    teacher_width: int = option(64, "channels of the first stage of the ResNet-18", at_least=1)
    teacher_seed: int = option(0, "of the one teacher of all students", at_least=0)
    teacher_steps: int = option(10_000, "SGD updates, cosine", at_least=1, smoke=2)
    teacher_batch: int = option(256, "images per update of the teacher", at_least=1, smoke=8)
    teacher_lr: float = option(0.1, "SGD learning rate of the teacher", above=0)
    teacher_momentum: float = option(0.9, "SGD momentum of the teacher", at_least=0, below=1)
    teacher_weight_decay: float = option(5e-4, "SGD weight decay of the teacher", at_least=0)
    teacher_crop_padding: int = option(4, "random crops for the teacher; 0: none", at_least=0)
    teacher_flip: bool = option(True, "random horizontal flips for the teacher")

    def __post_init__(self) -> None:
        super().__post_init__()
        Dsa(self.strategies)  # refuses unknown ones

    def check(self, data: TaskData) -> None:
        ResNet18(self.teacher_width).check(data.train.image_size)
        check_enough(data, ("all",))

    def measure(self, context: TaskContext, data: TaskData) -> list[TaskResult]:
        teacher = self._teacher().make(context, data).train(self.batch_norm == "train")
        kd = KDContext(context, teacher, None, self.noise_count)
        if context.distilled is not None:
            pixels = context.distilled.network_input().to(context.machine.device)
            kd = KDContext(context, teacher, pixels, len(pixels))
        student = self._learn(kd, with_new_head(context, data), data)
        student.train(self.batch_norm == "train")
        logits = data.test.predict(student, context.machine, batch=self.batch)
        accuracy = accuracy_percent(logits.cpu(), labels_of(data.test))
        setting = "batch norm of the batch" if self.batch_norm == "train" else ""
        return [TaskResult(setting, accuracy, None, self._length(kd))]

    def _teacher(self) -> Teacher:
        sgd = Sgd(self.teacher_lr, self.teacher_momentum, self.teacher_weight_decay)
        views = CropFlip(self.teacher_crop_padding, self.teacher_flip)
        training = Supervised(self.teacher_steps, self.teacher_batch, sgd, views)
        return Teacher(ResNet18(self.teacher_width), training, self.teacher_seed)

    def _learn(self, kd: KDContext, student: Network, data: TaskData) -> Network:
        seed, lr = kd.context.seed, self.lr if kd.pixels is not None else self.noise_lr
        state = DataFreeKdState(
            student,
            AdamW(lr).make(student.parameters()),
            Batches.over(kd.count, fork(seed, "data-free-kd-batches", data.name)),
            fork(seed, "data-free-kd-views", data.name),
        )
        step = partial(self._step, kd, state)
        length = self._length(kd)
        run_steps("data-free KD", state, step, length=length, saving=kd.context.saving)
        return student

    def _step(self, kd: KDContext, state: DataFreeKdState, step: int) -> dict[str, Tensor]:
        x, machine = self._images(kd, state), kd.context.machine
        with torch.no_grad():
            y = machine.forward(kd.teacher, x).softmax(1)  # soft labels
        epoch = step // self._steps_per_epoch(kd)
        set_learning_rates(state.optimizer, Cosine(), epoch, self.epochs)
        loss = train_step(state.student, state.optimizer, F.cross_entropy, x, y, machine)
        return {"loss": loss}

    def _images(self, kd: KDContext, state: DataFreeKdState) -> Tensor:  # (B, C, H, W)
        index = state.batches.draw(self.batch)
        if kd.pixels is not None:
            index = kd.context.machine.to_device(index)
            return Dsa(self.strategies)(kd.pixels[index], state.views)
        network = kd.context.network
        shape = (len(index), network.channels, network.image_size, network.image_size)
        return kd.context.machine.to_device(torch.randn(shape, generator=state.views))

    def _steps_per_epoch(self, kd: KDContext) -> int:
        return -(-kd.count // self.batch)

    def _length(self, kd: KDContext) -> int:
        return self.epochs * self._steps_per_epoch(kd)
