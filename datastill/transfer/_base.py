"""What a transfer task is, what it measures, and the row that keeps one number."""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, final

from datastill.artefact import DistilledSet
from datastill.data._base import source
from datastill.ground.errors import ConfigError, DataError
from datastill.ground.lookup import public_name
from datastill.ground.loop import Saving
from datastill.ground.machine import Machine
from datastill.ground.run_folder import RunFolder
from datastill.images import ImageSet
from datastill.networks._base import AbstractArchitecture, Network


@dataclass(frozen=True, eq=False)
class TaskData:
    """The labelled data that a network is transferred to."""

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
        """Both splits of a data set by its name, at one size.

        Raises:
            DataError: it is not there, or has no labels.
        """
        found = source(name)
        train, test = (found.load(split, image_size, data_root) for split in ("train", "test"))
        return TaskData(name, train, test)

    def fed_like(self, distilled: DistilledSet | None) -> "TaskData":
        """Through the whitening of a distilled set, where it has one: networks know nothing else.

        Other sets leave the data with their own statistics.
        """
        if distilled is None or distilled.normalizer.zca is None:
            return self
        splits = (x.normalized_by(distilled.normalizer) for x in (self.train, self.test))
        return TaskData(self.name, *splits)


@dataclass(frozen=True, eq=False)
class Start:
    """A network to transfer, and how to build another one like it."""

    network: Network
    architecture: AbstractArchitecture
    seed: int  # of everything random in the task
    machine: Machine = Machine()
    saving: Saving | None = None  # for tasks that take long
    distilled: DistilledSet | None = None  # what the network was pre-trained on
    folder: RunFolder | None = None  # for what several rows share, such as a teacher


@dataclass(frozen=True)
class Measured:
    """One number of a task, on the test split after a fixed number of steps."""

    setting: str  # what of the task was chosen, such as "5-per-class, output"
    accuracy_percent: float | None  # [0, 100]
    r_squared: float | None  # (-inf, 1]
    steps: int


@dataclass(frozen=True)
class TransferRow:
    """One measured number and all that is needed to repeat it."""

    method: str
    variant: str
    count: int  # M; 0 without a distilled set
    source: str
    data: str
    task: str
    setting: str
    network: str
    seed: int
    accuracy_percent: float | None
    r_squared: float | None
    steps: int
    wall_seconds: float
    peak_memory_bytes: int
    artefact: str  # fingerprint of the distilled set or target model; "" for scratch
    versions: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)  # of task and pre-training
    protocol: str = ""  # such as "mkdt" or "mkdt, 100 epochs"; "" for settings of one's own
    target_kind: str = ""  # of the distilled set; "" without one
    set_bytes: int = 0  # of the images and targets of the distilled set; 0 without one
    pretrain_steps: int = 0  # updates; 0 without pre-training
    settings: dict[str, Any] = field(default_factory=dict)  # what else decides the number


@dataclass(frozen=True)
class AbstractTask(ABC):
    """How a pre-trained network is judged; fields are hyperparameters."""

    trains_on_distilled: ClassVar[bool] = False  # whether it uses the distilled images again
    asks_outputs: ClassVar[bool] = False  # whether outputs must be the classes of the data

    @abstractmethod
    def check(self, data: TaskData) -> None:
        """Refuse data that this task cannot use, before any work.

        Raises:
            DataError: there are fewer labelled images than were asked for.
        """

    @abstractmethod
    def measure(self, start: Start, data: TaskData) -> list[Measured]:
        """Judge the network; one number per setting of this task."""

    @final
    def check_network(self, network: Network, data: TaskData) -> None:
        """Refuse a network whose images or outputs are not those of the data.

        Raises:
            ConfigError: sizes or channels differ, or the outputs are not one per class.
        """
        check_fit(network, data)
        classes = data.train.num_classes
        if self.asks_outputs and network.outputs != classes:
            raise ConfigError(
                f"{public_name(self)} judges the outputs of a network, which are {network.outputs},"
                f" while {data.name} has {classes} classes; give sets with class labels of"
                f" {data.name}, or choose another task"
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
    ) -> list[Measured]:
        """Judge a network on target data: "digits", "cifar10", "folder:PATH", or your own.

        Data-free distillation takes the distilled images too; without them it uses noise.

        Raises:
            DataError: the data are not there, or have no labels.
            ConfigError: the network, or the distilled set, has images of another size or channels,
                or outputs or classes that the task cannot judge.
        """
        if isinstance(data, str):
            data = TaskData.load(data, network.image_size, data_root)
        self.check_network(network, data)
        if distilled is not None:
            check_same_images(distilled, data)
        if distilled is not None and self.asks_outputs:
            check_same_classes(distilled, data)
        self.check(data)
        data = data.fed_like(distilled)
        architecture, machine = network.architecture, machine or Machine()
        return self.measure(Start(network, architecture, seed, machine, None, distilled), data)


def check_fit(network: Network, data: TaskData) -> None:
    """Refuse target data of another size or other channels than the network takes.

    Raises:
        ConfigError: the network does not take such images.
    """
    if network.channels != data.train.channels:
        raise ConfigError(
            f"the network takes images of {network.channels} channels, {data.name} has"
            f" {data.train.channels}; choose target data of the same kind as the source"
        )
    if network.image_size != data.train.image_size:
        raise ConfigError(
            f"the network takes images of {network.image_size} pixels, {data.name} has"
            f" {data.train.image_size}; load the data at the network's size"
        )


def check_same_images(distilled: DistilledSet, data: TaskData) -> None:
    """Refuse a distilled set whose images are of another shape than the target data.

    Raises:
        ConfigError: sizes or channels differ.
    """
    known = data.train
    if (distilled.image_size, distilled.channels) != (known.image_size, known.channels):
        raise ConfigError(
            f"the distilled images have {distilled.image_size} pixels and {distilled.channels}"
            f" channels, {data.name} {known.image_size} and {known.channels}; a teacher of"
            f" {data.name} can only judge images of its own shape"
        )


def check_same_classes(distilled: DistilledSet, data: TaskData) -> None:
    """Refuse a distilled set whose targets are not of the classes of the data.

    Raises:
        ConfigError: they are representations, or the classes of other data.
    """
    kind, classes = distilled.target_kind, distilled.provenance.get("classes") or []
    if kind == "representation":
        raise ConfigError(
            f"networks pre-trained on representations do not name the classes of {data.name};"
            " give a set with class labels, or choose a task that trains a new head"
        )
    if distilled.outputs != data.train.num_classes or (
        classes and tuple(classes) != data.train.classes
    ):
        raise ConfigError(
            f"the distilled set has {distilled.outputs} classes of its source, and {data.name} has"
            f" {data.train.num_classes}, which are not the same; judge it on the data that it was"
            " distilled from, or choose a task that trains a new head"
        )
