"""Linear probe: a linear classifier on frozen features (KRR-ST's meta-test protocol)."""

import importlib
import warnings
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datastill.batches import Batches
from datastill.core.options import option
from datastill.core.rng import fork, seeded
from datastill.ops.metrics import accuracy_percent
from datastill.ops.optimizers import Sgd
from datastill.ops.schedules import Cosine, set_learning_rates
from datastill.transfer._probe import FeatureProbe, Features

MIN_STD = 1e-6  # features that vary less than this are constant


@dataclass(frozen=True)
class LinearProbe(FeatureProbe):
    """Train a linear classifier on frozen features, and report its test accuracy.

    "sgd" is KRR-ST's setting (a fixed number of steps, no weight decay). "lbfgs" solves the
    logistic regression with an L2 penalty by scikit-learn, up to `lbfgs_iterations`.

    Args:
        features: "body": features below the head; "output": outputs of the head.
        labels: Which training images keep their labels; one result for each entry.
        draws: Draws of the labelled images, whose accuracies are averaged.
        solver: "sgd" or "lbfgs".
        standardize: Whether features are scaled to mean 0 and deviation 1 on the labelled images.
        steps: SGD updates.
        batch: Features per SGD update.
        lr: SGD learning rate at the start of the cosine schedule.
        momentum: SGD momentum.
        l2: Penalty of "lbfgs": mean loss + l2/2 times the sum of squared weights.
        lbfgs_iterations: Iterations of "lbfgs" at most.

    Raises:
        ConfigError: An option is outside its range.

    Example:
        >>> import datastill as ds
        >>> network = ds.ConvNet(widths=(8,))(image_size=16, channels=1, outputs=5)
        >>> probe = ds.LinearProbe(labels=("5-per-class",), steps=20)
        >>> (result,) = probe.run(network, "digits")
        >>> result.setting
        '5-per-class, body'
    """

    solver: Literal["sgd", "lbfgs"] = option("sgd", "how the classifier is fitted")
    standardize: bool = option(False, "scale features to mean 0, deviation 1 on labelled images")
    steps: int = option(5000, "SGD updates", at_least=1, smoke=2)
    batch: int = option(512, "SGD batch", at_least=1, smoke=8)
    lr: float = option(0.2, "SGD learning rate", above=0)
    momentum: float = option(0.9, "SGD momentum", at_least=0, below=1)
    l2: float = option(1e-3, "penalty of lbfgs: mean loss + l2/2 · sum of squared weights", above=0)
    lbfgs_iterations: int = option(300, "iterations of lbfgs at most", at_least=1, smoke=2)

    def accuracy(self, train: Features, test: Features, seed: int) -> float:
        values, query = train.values, test.values
        if self.standardize:
            mean, std = values.mean(0), values.std(0)
            # A feature that is constant in training would make test features huge.
            scale = torch.where(std < MIN_STD, 1.0, std)
            values, query = (values - mean) / scale, (query - mean) / scale
        if self.solver == "lbfgs":
            return self._lbfgs(values, train.labels, query, test.labels)
        labels = train.labels.to(values.device)
        classifier = self._sgd(values, labels, train.num_classes, seed)
        with torch.no_grad():
            return accuracy_percent(classifier(query).cpu(), test.labels)

    def updates(self) -> int:
        return self.steps if self.solver == "sgd" else 0

    def _sgd(self, features: Tensor, labels: Tensor, classes: int, seed: int) -> nn.Linear:
        with seeded(seed, "probe"):
            classifier = nn.Linear(features.shape[1], classes).to(features.device)
        optimizer = Sgd(self.lr, self.momentum).make(classifier.parameters())
        batches = Batches.over(len(features), fork(seed, "probe-batches"))
        for step in range(self.steps):
            index = batches.draw(self.batch).to(features.device, non_blocking=True)
            set_learning_rates(optimizer, Cosine(), step, self.steps)
            loss = F.cross_entropy(classifier(features[index]), labels[index])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return classifier

    def _lbfgs(self, x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor) -> float:
        linear = importlib.import_module("sklearn.linear_model")  # takes a second
        not_converged = importlib.import_module("sklearn.exceptions").ConvergenceWarning
        inverse_penalty = 1 / (self.l2 * len(x))
        model = linear.LogisticRegression(C=inverse_penalty, max_iter=self.lbfgs_iterations)
        with warnings.catch_warnings():
            # The number of iterations is a setting, and few images per class are intended.
            warnings.simplefilter("ignore", not_converged)
            warnings.filterwarnings("ignore", "The number of unique classes")
            model.fit(x.double().cpu().numpy(), y.numpy())
        predicted = torch.from_numpy(model.predict(x_test.double().cpu().numpy()))
        return 100 * float((predicted == y_test).double().mean())
