"""Probes: a simple classifier on the features of a frozen network.

Features are those below the head ("body") or the outputs of the head ("output"), which were trained
to be the target representation. They are computed once, without augmentation, in evaluation mode.
"""

from abc import abstractmethod
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, final

from torch import Tensor

from datastill.core.options import option
from datastill.core.rng import derive
from datastill.images import ImageSet
from datastill.transfer._labels import check_enough, check_labels, choose_labelled, labels_of
from datastill.transfer.task import Task, TaskContext, TaskData, TaskResult


@dataclass(frozen=True, eq=False)
class Features:
    """Features of labelled images, extracted by a frozen network."""

    values: Tensor  # (N, F), on the device
    labels: Tensor  # (N,) int64, on the CPU
    num_classes: int  # K


@dataclass(frozen=True)
class FeatureProbe(Task):
    """Evaluate frozen features: one accuracy per number of labels, averaged over draws.

    A subclass implements `accuracy` and `updates`.
    """

    features: Literal["body", "output"] = option("body", "what the probe reads")
    labels: tuple[str, ...] = option(
        ("all",), "labelled images: all, 10%, or 5-per-class", smoke=("all",)
    )
    draws: int = option(1, "draws of labelled images, whose accuracies are averaged", at_least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_labels(self.labels)

    @abstractmethod
    def accuracy(self, train: Features, test: Features, seed: int) -> float:
        """Fit a classifier to `train` and return its accuracy on `test`, in percent."""

    @abstractmethod
    def updates(self) -> int:
        """Return the number of updates of the classifier; 0 where it has none."""

    @final
    def check(self, data: TaskData) -> None:
        check_enough(data, self.labels)

    @final
    def measure(self, context: TaskContext, data: TaskData) -> list[TaskResult]:
        test = self._extract_features(context, data.test)
        results = []
        for labels in self.labels:
            accuracies = []
            for draw in range(self.draws):
                seed = derive(context.seed, "label-draw", draw) if draw else context.seed
                train = self._extract_features(context, choose_labelled(data, labels, seed))
                accuracies.append(self.accuracy(train, test, seed))
            setting = f"{labels}, {self.features}"
            results.append(TaskResult(setting, fmean(accuracies), None, self.updates()))
        return results

    def _extract_features(self, context: TaskContext, images: ImageSet) -> Features:
        module = context.network if self.features == "output" else context.network.body
        values = images.predict(module.eval(), context.machine)
        return Features(values, labels_of(images), images.num_classes)
