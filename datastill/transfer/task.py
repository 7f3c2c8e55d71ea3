"""A transfer task, the labelled data it uses, and the row that stores one measured number."""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

from datastill.core.errors import ConfigError, DataError
from datastill.core.lookup import public_name
from datastill.core.loop import CheckpointConfig
from datastill.core.machine import Machine
from datastill.core.options import check_bounds
from datastill.core.run_folder import RunFolder
from datastill.data.source import source
from datastill.distilled_set import DistilledSet, SetSummary
from datastill.images import ImageSet, Normalizer
from datastill.networks.architecture import Architecture, Network


@dataclass(frozen=True, eq=False)
class TaskData:
    """Labelled images that a network is transferred to.

    Args:
        name: Name in results, such as "cifar10".
        train: Labelled images for training.
        test: Labelled images for testing, of the same classes.

    Raises:
        DataError: A split has no labels.

    Example:
        >>> digits = TaskData.load("digits", image_size=16)
        >>> digits.train.num_classes
        10
    """

    name: str
    train: ImageSet
    test: ImageSet

    def __post_init__(self) -> None:
        if self.train.labels is None or self.test.labels is None:
            raise DataError(
                f"{self.name} has no labels; a task needs class folders (train/CLASS/, test/CLASS/)"
                " or a labelled data set"
            )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of both splits: equal for equal data, whatever its name."""
        text = self.train.fingerprint + self.test.fingerprint
        return hashlib.sha256(text.encode()).hexdigest()

    @staticmethod
    def load(name: str, image_size: int, data_root: Path | None = None) -> "TaskData":
        """Load both splits of a data set.

        Args:
            name: Such as "digits", "cifar10" or "folder:PATH".
            image_size: Pixels on a side.
            data_root: Folder with the official archives. Default: the cache.

        Raises:
            DataError: The data are missing, or have no labels.
        """
        data = source(name)
        train, test = (data.load(split, image_size, data_root) for split in ("train", "test"))
        return TaskData(name, train, test)

    def whitened_by(self, normalizer: Normalizer | None) -> "TaskData":
        """Return the data with the normalizer of a distilled set, if that whitens; else unchanged.

        A network that was trained on whitened images must get whitened images. For all other
        networks the data are normalized by their own statistics.
        """
        if normalizer is None or normalizer.zca is None:
            return self
        splits = (x.with_normalizer(normalizer) for x in (self.train, self.test))
        return TaskData(self.name, *splits)


@dataclass(frozen=True, eq=False)
class TaskContext:
    """A network to evaluate, and everything that a task needs beside its data.

    Args:
        network: The pre-trained network, on the device of `machine`. Tasks do not change it.
        architecture: Builds another network like it, with a new head.
        seed: Root of all random streams of the task.
        machine: Device and precision.
        saving: Where a long task keeps its checkpoint. Default: nowhere.
        distilled: The set that the network was pre-trained on, if there is one.
        folder: Keeps what several rows share, such as a teacher. Default: nothing is kept.
    """

    network: Network
    architecture: Architecture
    seed: int
    machine: Machine = Machine()
    saving: CheckpointConfig | None = None
    distilled: DistilledSet | None = None
    folder: RunFolder | None = None


@dataclass(frozen=True)
class TaskResult:
    """One number that a task measured on the test split, after a fixed number of steps."""

    setting: str  # of the task, such as "5-per-class, output"
    accuracy_percent: float | None  # [0, 100]
    r_squared: float | None  # (-inf, 1]
    steps: int


@dataclass(frozen=True)
class Task(ABC):
    """How a pre-trained network is evaluated on labelled data; fields are hyperparameters.

    To add a task, subclass it in a file of `datastill/transfer` and implement `check` and `measure`
    (docs/extend.md).

    Example:
        >>> import datastill as ds
        >>> network = ds.ConvNet(widths=(8,))(image_size=16, channels=1, outputs=10)
        >>> (result,) = ds.KnnProbe().run(network, "digits")
        >>> 0 <= result.accuracy_percent <= 100
        True
    """

    trains_on_distilled: ClassVar[bool] = False  # whether it uses the distilled images again
    evaluates_outputs: ClassVar[bool] = False  # whether outputs must be the classes of the data

    def __post_init__(self) -> None:
        check_bounds(self)

    @abstractmethod
    def check(self, data: TaskData) -> None:
        """Check that this task can use the data, before any work.

        Raises:
            DataError: There are fewer labelled images than the options need.
        """

    @abstractmethod
    def measure(self, context: TaskContext, data: TaskData) -> list[TaskResult]:
        """Evaluate the network of `context`.

        Args:
            context: The network, its architecture, the seed and where checkpoints go.
            data: Labelled images, which `check` has accepted.

        Returns:
            One number per setting of this task, such as one per number of labels.
        """

    @final
    def check_network(self, network: Network, data: TaskData) -> None:
        """Check that the network takes images like those of the data.

        Raises:
            ConfigError: Sizes or channels differ, or the network must have one output per class and
                has another number.
        """
        if network.channels != data.train.channels:
            raise ConfigError(
                f"the network takes images of {network.channels} channels, {data.name} has"
                f" {data.train.channels}; choose target data with as many channels as the source"
            )
        if network.image_size != data.train.image_size:
            raise ConfigError(
                f"the network takes images of {network.image_size} pixels, {data.name} has"
                f" {data.train.image_size}; load the data at the network's size"
            )
        classes = data.train.num_classes
        if self.evaluates_outputs and network.outputs != classes:
            raise ConfigError(
                f"{public_name(self)} evaluates the outputs of the network, which has"
                f" {network.outputs}, while {data.name} has {classes} classes; give sets with class"
                f" labels of {data.name}, or choose another task"
            )

    @final
    def run(
        self,
        network: Network,
        data: TaskData | str,
        *,
        seed: int = 0,
        machine: Machine | None = None,
        data_root: Path | None = None,
        distilled: DistilledSet | None = None,
    ) -> list[TaskResult]:
        """Evaluate a network on labelled data.

        Args:
            network: A pre-trained network of datastill.
            data: "digits", "cifar10", "folder:PATH", or a `TaskData`.
            seed: Root of all random streams.
            machine: Device and precision. Default: the CPU in float32.
            data_root: Folder with the official archives. Default: the cache.
            distilled: The set that the network was pre-trained on. Data-free distillation uses its
                images (without a set: noise), and its whitening is applied to the data.

        Returns:
            One result per setting of the task, such as one per number of labels.

        Raises:
            DataError: The data are missing, or have no labels.
            ConfigError: The network or the distilled set has images of another size or other
                channels, or outputs or classes that the task cannot evaluate.
        """
        if isinstance(data, str):
            data = TaskData.load(data, network.image_size, data_root)
        self.check_network(network, data)
        if distilled is not None:
            check_same_images(distilled, data)
        if distilled is not None and self.evaluates_outputs:
            check_same_classes(distilled.summary, data)
        self.check(data)
        data = data.whitened_by(None if distilled is None else distilled.normalizer)
        architecture, machine = network.architecture, machine or Machine()
        return self.measure(
            TaskContext(network, architecture, seed, machine, None, distilled), data
        )


def check_same_images(distilled: DistilledSet, data: TaskData) -> None:
    """Check that distilled images have the shape of the data.

    Raises:
        ConfigError: Sizes or channels differ.
    """
    train = data.train
    if (distilled.image_size, distilled.channels) != (train.image_size, train.channels):
        raise ConfigError(
            f"the distilled images have {distilled.image_size} pixels and {distilled.channels}"
            f" channels, {data.name} {train.image_size} and {train.channels}; a teacher trained on"
            f" {data.name} takes images of their shape only"
        )


def check_same_classes(distilled: SetSummary, data: TaskData) -> None:
    """Check that the targets of a distilled set are the classes of the data.

    Raises:
        ConfigError: They are representations, or classes of other data.
    """
    classes = distilled.provenance.get("classes") or []
    if distilled.target_kind == "representation":
        raise ConfigError(
            f"networks pre-trained on representations do not predict the classes of {data.name};"
            " give a set with class labels, or choose a task that trains a new head"
        )
    if distilled.outputs != data.train.num_classes or (
        classes and tuple(classes) != data.train.classes
    ):
        raise ConfigError(
            f"the distilled set has {distilled.outputs} classes of its source, and {data.name} has"
            f" {data.train.num_classes}, which are not the same; evaluate it on the data that it"
            " was distilled from, or choose a task that trains a new head"
        )
