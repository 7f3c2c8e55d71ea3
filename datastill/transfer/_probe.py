"""Probes: a frozen network is judged by what a simple classifier makes of its features.

"body" reads the features below the head; "output" reads the head's outputs, which were trained
to be the target representation. Features are computed once, not augmented, in evaluation mode.
"""

from abc import abstractmethod
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, final

from torch import Tensor

from datastill.ground.options import check_bounds, option
from datastill.ground.rng import derive
from datastill.images import ImageSet
from datastill.transfer._base import AbstractTask, Measured, Start, TaskData
from datastill.transfer._labels import check_enough, check_labels, choose_labelled, labels_of


@dataclass(frozen=True, eq=False)
class Features:
    """What a frozen network says of labelled images."""

    values: Tensor  # (N, F), on the device
    labels: Tensor  # (N,) int64, on the CPU
    num_classes: int  # K


@dataclass(frozen=True)
class AbstractProbe(AbstractTask):
    """One accuracy per label budget, averaged over draws of the labelled images."""

    features: Literal["body", "output"] = option("body", "what the probe reads")
    labels: tuple[str, ...] = option(
        ("all",), "labelled images: all, 10%, or 5-per-class", smoke=("all",)
    )
    draws: int = option(1, "draws of labelled images, whose accuracies are averaged", at_least=1)

    def __post_init__(self) -> None:
        check_bounds(self)
        check_labels(self.labels)

    @abstractmethod
    def accuracy(self, known: Features, asked: Features, seed: int) -> float:
        """Percent of `asked` that a classifier made from `known` gets right."""

    @abstractmethod
    def updates(self) -> int:
        """How many updates of a classifier that takes; 0 where there are none to count."""

    @final
    def check(self, data: TaskData) -> None:
        check_enough(data, self.labels)

    @final
    def measure(self, start: Start, data: TaskData) -> list[Measured]:
        asked = self._read(start, data.test)
        found = []
        for labels in self.labels:
            accuracies = []
            for draw in range(self.draws):
                seed = derive(start.seed, "label-draw", draw) if draw else start.seed
                known = self._read(start, choose_labelled(data, labels, seed))
                accuracies.append(self.accuracy(known, asked, seed))
            setting = f"{labels}, {self.features}"
            found.append(Measured(setting, fmean(accuracies), None, self.updates()))
        return found

    def _read(self, start: Start, images: ImageSet) -> Features:
        module = start.network if self.features == "output" else start.network.body
        values = images.outputs(module.eval(), start.machine)
        return Features(values, labels_of(images), images.num_classes)
