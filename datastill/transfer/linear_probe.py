"""Linear probe: a linear classifier on frozen features (KRR-ST's meta-test protocol)."""

import importlib
import warnings
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datastill.batches import Batches
from datastill.ground.options import option
from datastill.ground.rng import fork, seeded
from datastill.maths.metrics import accuracy_percent
from datastill.maths.optimizers import Sgd
from datastill.maths.schedules import Cosine, set_rates
from datastill.transfer._probe import AbstractProbe, Features

MIN_SPREAD = 1e-6  # features that vary less than this are constant


@dataclass(frozen=True)
class LinearProbe(AbstractProbe):
    """A classifier is fitted to the features of the labelled images.

    `sgd` is the official setting (a fixed number of steps, no weight decay); `lbfgs` solves the
    logistic regression with an L2 penalty by scikit-learn, to its optimum where iterations allow.
    """

    solver: Literal["sgd", "lbfgs"] = option("sgd", "how the classifier is fitted")
    standardize: bool = option(False, "scale features to mean 0, deviation 1 on labelled images")
    steps: int = option(5000, "SGD updates", at_least=1, smoke=2)
    batch: int = option(512, "SGD batch", at_least=1, smoke=8)
    lr: float = option(0.2, "SGD learning rate", above=0)
    momentum: float = option(0.9, "SGD momentum", at_least=0, below=1)
    l2: float = option(1e-3, "penalty of lbfgs: mean loss + l2/2 · sum of squared weights", above=0)
    lbfgs_iterations: int = option(300, "iterations of lbfgs at most", at_least=1, smoke=2)

    def accuracy(self, known: Features, asked: Features, seed: int) -> float:
        values, query = known.values, asked.values
        if self.standardize:
            mean, std = values.mean(0), values.std(0)
            scale = torch.where(std < MIN_SPREAD, 1.0, std)  # or test features would explode
            values, query = (values - mean) / scale, (query - mean) / scale
        if self.solver == "lbfgs":
            return self._lbfgs(values, known.labels, query, asked.labels)
        labels = known.labels.to(values.device)
        classifier = self._sgd(values, labels, known.num_classes, seed)
        with torch.no_grad():
            return accuracy_percent(classifier(query).cpu(), asked.labels)

    def updates(self) -> int:
        return self.steps if self.solver == "sgd" else 0

    def _sgd(self, features: Tensor, labels: Tensor, classes: int, seed: int) -> nn.Linear:
        with seeded(seed, "probe"):
            classifier = nn.Linear(features.shape[1], classes).to(features.device)
        optimizer = Sgd(self.lr, self.momentum).make(classifier.parameters())
        batches = Batches.over(len(features), fork(seed, "probe-batches"))
        for step in range(self.steps):
            index = batches.draw(self.batch).to(features.device, non_blocking=True)
            set_rates(optimizer, Cosine(), step, self.steps)
            loss = F.cross_entropy(classifier(features[index]), labels[index])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return classifier

    def _lbfgs(self, known: Tensor, labels: Tensor, asked: Tensor, truth: Tensor) -> float:
        linear = importlib.import_module("sklearn.linear_model")  # takes a second
        unfinished = importlib.import_module("sklearn.exceptions").ConvergenceWarning
        penalty = 1 / (self.l2 * len(known))
        model = linear.LogisticRegression(C=penalty, max_iter=self.lbfgs_iterations)
        with warnings.catch_warnings():  # the number of iterations is a setting, not a failure
            warnings.simplefilter("ignore", unfinished)
            warnings.filterwarnings("ignore", "The number of unique classes")  # few are meant
            model.fit(known.double().cpu().numpy(), labels.numpy())
        predicted = torch.from_numpy(model.predict(asked.double().cpu().numpy()))
        return 100 * float((predicted == truth).double().mean())
