"""Linear probe: a linear classifier on frozen features (KRR-ST's meta-test protocol).

"body" reads the features below the head; "output" reads the head's outputs, which were trained
to be the target representation.
"""

import warnings
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from datastill.batches import Batches
from datastill.ground.options import check_bounds, option
from datastill.ground.rng import derive, fork, seeded
from datastill.images import ImageSet
from datastill.maths.metrics import accuracy_percent
from datastill.maths.optimizers import Sgd
from datastill.maths.schedules import Cosine, set_rates
from datastill.transfer._base import AbstractTask, Measured, Start, TaskData, in_batches
from datastill.transfer._labels import check_labels, choose_labelled

MIN_SPREAD = 1e-6  # features that vary less than this are constant


@dataclass(frozen=True)
class LinearProbe(AbstractTask):
    """Features are computed once, not augmented, in evaluation mode; then a classifier is fitted.

    `sgd` is the official setting (a fixed number of steps, no weight decay); `lbfgs` solves the
    logistic regression with an L2 penalty to its optimum by scikit-learn.
    """

    features: Literal["body", "output"] = option("body", "what the probe reads")
    labels: tuple[str, ...] = option(("all",), "labelled images: all, 10%, or 5-per-class")
    draws: int = option(1, "draws of labelled images, whose accuracies are averaged", at_least=1)
    solver: Literal["sgd", "lbfgs"] = option("sgd", "how the classifier is fitted")
    standardize: bool = option(False, "scale features to mean 0, deviation 1 on labelled images")
    steps: int = option(5000, "SGD updates", at_least=1)
    batch: int = option(512, "SGD batch", at_least=1)
    lr: float = option(0.2, "SGD learning rate", above=0)
    momentum: float = option(0.9, "SGD momentum", at_least=0, below=1)
    l2: float = option(1e-3, "penalty of lbfgs: mean loss + l2/2 · sum of squared weights", above=0)

    def __post_init__(self) -> None:
        check_labels(self.labels)
        check_bounds(self)

    def check(self, data: TaskData) -> None:
        for labels in self.labels:
            choose_labelled(data, labels, seed=0)  # raises where there are too few

    def measure(self, start: Start, data: TaskData) -> list[Measured]:
        module = start.network if self.features == "output" else start.network.body
        module.eval()
        test = in_batches(module, data.test, start.machine)
        found = []
        for labels in self.labels:
            accuracies = []
            for draw in range(self.draws):
                seed = derive(start.seed, "label-draw", draw) if draw else start.seed
                train = choose_labelled(data, labels, seed)
                known = in_batches(module, train, start.machine)
                accuracies.append(self._accuracy(known, train, test, data.test, seed))
            steps = self.steps if self.solver == "sgd" else 0
            found.append(Measured(f"{labels}, {self.features}", fmean(accuracies), None, steps))
        return found

    def _accuracy(
        self, known: Tensor, train: ImageSet, asked: Tensor, test: ImageSet, seed: int
    ) -> float:
        assert train.labels is not None and test.labels is not None
        if self.standardize:
            mean, std = known.mean(0), known.std(0)
            scale = torch.where(std < MIN_SPREAD, 1.0, std)  # or test features would explode
            known, asked = (known - mean) / scale, (asked - mean) / scale
        if self.solver == "lbfgs":
            return self._lbfgs(known, train.labels, asked, test.labels)
        classifier = self._sgd(known, train.labels.to(known.device), train.num_classes, seed)
        with torch.no_grad():
            return accuracy_percent(classifier(asked).cpu(), test.labels)

    def _sgd(self, features: Tensor, labels: Tensor, classes: int, seed: int) -> nn.Linear:
        with seeded(seed, "probe"):
            classifier = nn.Linear(features.shape[1], classes).to(features.device)
        optimizer = Sgd(self.lr, self.momentum).make(classifier.parameters())
        batches = Batches.over(len(features), fork(seed, "probe-batches"))
        for step in range(self.steps):
            index = batches.draw(self.batch).to(features.device)
            set_rates(optimizer, Cosine(), step, self.steps)
            loss = F.cross_entropy(classifier(features[index]), labels[index])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return classifier

    def _lbfgs(self, known: Tensor, labels: Tensor, asked: Tensor, truth: Tensor) -> float:
        model = LogisticRegression(C=1 / (self.l2 * len(known)), max_iter=300)
        with warnings.catch_warnings():  # 300 iterations are the setting, not a failure
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(known.double().cpu().numpy(), labels.numpy())
        predicted = torch.from_numpy(model.predict(asked.double().cpu().numpy()))
        return 100 * float((predicted == truth).double().mean())
