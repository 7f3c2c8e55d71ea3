"""Expert trajectories: the parameters of networks after each epoch of training on the source.

With a cache folder each expert is one file, `<cache>/experts/<digest>/<number>.safetensors`. The
digest is of everything that the experts depend on, and the file says it in full. An expert whose
training was killed begins anew; those that are finished are kept.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from datastill.augment.dsa import Dsa
from datastill.batches import Batches
from datastill.ground.alone import alone
from datastill.ground.errors import ArtefactError, NotFiniteError
from datastill.ground.lookup import public_name
from datastill.ground.options import Json, to_json
from datastill.ground.progress import Reporter, reporting, say
from datastill.ground.rng import fork, seeded
from datastill.ground.tensor_file import read_checked, write_checked
from datastill.images import ImageSet
from datastill.maths.optimizers import Sgd
from datastill.methods._base import Problem
from datastill.methods._flat import flat
from datastill.networks._base import Network
from datastill.networks.train_step import train_step

FORMAT = "datastill.expert"
FORMAT_VERSION = 1  # raise it when experts are trained differently: old files are then not found


@dataclass(frozen=True)
class ExpertTraining:
    """SGD at a constant rate on labelled images with DSA."""

    epochs: int
    batch: int
    lr: float
    momentum: float
    weight_decay: float
    seed: int
    zca_ridge_of_mean: float | None  # None: the images are not whitened


@dataclass(frozen=True, eq=False)
class Experts:
    """The experts of a problem, numbered 0, 1, ...; the same bits with and without a cache."""

    problem: Problem
    training: ExpertTraining

    def make(self, count: int) -> None:
        """Have the first `count` experts; those that are neither in memory nor cached are trained.

        Raises:
            NotFiniteError: the training of an expert diverged.
            DataError: the cache cannot be written.
        """
        missing = [number for number in range(count) if self._found(number) is None]
        if not missing:
            return
        with reporting("experts", 0, len(missing) * self.training.epochs) as reporter:
            for done, number in enumerate(missing):
                self._make(number, _after(reporter, done * self.training.epochs))

    def trajectory(self, number: int) -> Tensor:  # (epochs + 1, P) float32, on the CPU
        """The parameters of an expert at its start and after each epoch, made where missing."""
        found = self._found(number)
        return self._make(number, lambda epoch, loss: None) if found is None else found

    @cached_property
    def facts(self) -> Json:
        """Everything that the experts depend on; the device is left out, as in all identities."""
        problem = self.problem
        return {
            "source": problem.images.fingerprint,
            "normalizer": problem.images.normalizer.statistics,
            "outputs": problem.images.num_classes,
            "network": {"name": public_name(problem.network), **to_json(problem.network)},
            "training": to_json(self.training),
            "augmentation": to_json(Dsa()),
            "precision": problem.machine.precision,
            "version": FORMAT_VERSION,
        }

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()[:16]

    def _found(self, number: int) -> Tensor | None:
        known, key = self.problem.experts, f"{self._digest}/{number}"
        if key not in known and (cached := self._read(number)) is not None:
            known[key] = cached
        return known.get(key)

    def _make(self, number: int, after: Callable[[int, float], None]) -> Tensor:
        key, file = f"{self._digest}/{number}", self._file(number)
        if file is None:
            self.problem.experts[key] = self._train(number, after)
            return self.problem.experts[key]
        with alone(file.with_name(f".{number}.lock"), f"expert {number}"):
            trajectory = self._read(number)  # another process may have been faster
            if trajectory is None:
                trajectory = self._train(number, after)
                write_checked(file, {"parameters": trajectory}, self._metadata(number))
        self.problem.experts[key] = trajectory
        return trajectory

    def _file(self, number: int) -> Path | None:
        cache = self.problem.cache
        return cache and cache / "experts" / self._digest / f"{number}.safetensors"

    def _metadata(self, number: int) -> dict[str, str]:
        facts = json.dumps({**self.facts, "number": number}, sort_keys=True)
        return {"format": FORMAT, "format_version": str(FORMAT_VERSION), "facts": facts}

    def _read(self, number: int) -> Tensor | None:
        """The cached expert, memory-mapped; None where it is absent, or damaged, which is said."""
        file = self._file(number)
        if file is None or not file.exists():
            return None
        try:
            tensors, metadata = read_checked(file, FORMAT, FORMAT_VERSION)
        except ArtefactError as error:
            say(f"expert {number} is made again: {error}")
            return None
        if metadata != self._metadata(number):
            say(f"expert {number} is made again: {file} is of another expert")
            return None
        return tensors["parameters"]

    def _train(self, number: int, after: Callable[[int, float], None]) -> Tensor:
        """Train an expert; `after` is called with each epoch, from 1, and its last loss."""
        with seeded(self.training.seed, "expert", number):
            network = new_network(self.problem)
            trajectory = [flat(network).cpu()]
            for epoch, loss in enumerate(self._epochs(number, network), 1):
                trajectory.append(flat(network).cpu())
                if not trajectory[-1].isfinite().all():
                    raise NotFiniteError(
                        f"expert {number}: its parameters are not finite after epoch {epoch};"
                        " lower --method.expert_lr"
                    )
                after(epoch, float(loss))
        return torch.stack(trajectory)

    def _epochs(self, number: int, network: Network) -> Iterator[Tensor]:
        """Train a network in place; the last loss of each epoch."""
        training, machine = self.training, self.problem.machine
        images, labels = self._images, self.problem.images.labels
        assert labels is not None, "AbstractMethod.check refuses this before any work"
        sgd = Sgd(training.lr, training.momentum, training.weight_decay)
        optimizer = sgd.make(network.parameters())
        batches = Batches.over(len(images), fork(training.seed, "expert", number, "batches"))
        augmentation = fork(training.seed, "expert", number, "augmentation")
        for _ in range(training.epochs):
            for _ in range(ceil(len(images) / training.batch)):
                index = batches.draw(training.batch)
                x = Dsa()(images.normalizer(self.problem.real(index).float() / 255), augmentation)
                y = machine.here(labels[index])
                loss = train_step(network, optimizer, F.cross_entropy, x, y, machine)
            yield loss

    @property
    def _images(self) -> ImageSet:
        ridge = self.training.zca_ridge_of_mean
        return self.problem.images if ridge is None else self.problem.whitened(ridge)


def new_network(problem: Problem) -> Network:
    """An untrained classifier in training mode, with weights from the global generator."""
    images = problem.images
    network = problem.network(
        image_size=images.image_size, channels=images.channels, outputs=images.num_classes
    )
    return problem.machine.place(network).train()


def _after(reporter: Reporter, done: int) -> Callable[[int, float], None]:
    """What shows each epoch of an expert when `done` epochs of others are done."""

    def show(epoch: int, loss: float) -> None:
        if reporter.due():
            reporter.update(done + epoch, {"loss": loss})

    return show
