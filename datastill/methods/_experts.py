"""Expert trajectories: the parameters of networks after each epoch of training on the source.

With a cache folder each expert is one file, `<cache>/experts/<digest>/<number>.safetensors`. The
digest covers everything that the experts depend on, and the file has it in full. An expert whose
training was killed begins anew; those that are finished are kept.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.func import functional_call

from datastill.augment.crop_flip import CropFlip
from datastill.augment.dsa import Dsa
from datastill.batches import Batches
from datastill.core.errors import ArtefactError, NotFiniteError
from datastill.core.locks import file_lock
from datastill.core.lookup import public_name
from datastill.core.machine import Machine
from datastill.core.options import Json, to_json
from datastill.core.progress import logger, progress_bar
from datastill.core.rng import fork, seeded
from datastill.core.tensor_file import read_checked, write_checked
from datastill.images import ImageSet
from datastill.networks.architecture import Network
from datastill.networks.train_step import train_step
from datastill.ops.optimizers import Sgd
from datastill.problem import Problem
from datastill.target_cache import TargetCache

FORMAT = "datastill.expert"
FORMAT_VERSION = 1  # raise it when experts are trained differently: old files are then not found


@dataclass(frozen=True)
class ExpertTraining:
    """SGD at a constant rate."""

    epochs: int
    batch: int
    lr: float
    momentum: float
    weight_decay: float
    seed: int
    zca_ridge_of_mean: float | None  # None: the images are not whitened


class Experts:
    """The experts of a problem, numbered 0, 1, ...; the same bits with and without a cache.

    Args:
        problem: Gives source, labels, network, machine and cache folder.
        source: The source as networks see it, whitened where `training` says so.
        training: How each expert is trained.
        representations: What experts regress, without augmentation. None: they classify the source,
            with DSA.
    """

    def __init__(
        self,
        problem: Problem,
        source: ImageSet,
        training: ExpertTraining,
        representations: TargetCache | None = None,
    ) -> None:
        self.problem, self.source, self.training = problem, source, training
        self.representations = representations
        self.loss = F.mse_loss if representations else F.cross_entropy
        self._trajectories: dict[int, Tensor] = {}

    def make(self, numbers: Iterable[int]) -> None:
        """Train the experts that are neither in memory nor cached.

        Raises:
            NotFiniteError: The training of an expert diverged.
            DataError: The cache cannot be written.
        """
        missing = [number for number in numbers if not self._find(number)]
        if not missing:
            return
        steps = self.training.epochs * ceil(len(self.source) / self.training.batch)
        with progress_bar("experts", 0, len(missing) * steps) as reporter:
            for done, number in enumerate(missing):

                def show(step: int, loss: Tensor, done: int = done) -> None:
                    if reporter.due():
                        reporter.update(done * steps + step, {"loss": float(loss)})

                file = self._file(number)
                if file is None:
                    self._trajectories[number] = self._train(number, show)
                    continue
                with file_lock(file.with_name(f".{number}.lock"), f"expert {number}"):
                    if not self._find(number):  # another process may have been faster
                        trajectory = self._train(number, show)
                        write_checked(file, {"parameters": trajectory}, self._metadata(number))
                        self._trajectories[number] = trajectory

    def trajectory(self, number: int) -> Tensor:  # (epochs + 1, P) float32, on the CPU
        """Return the parameters of an expert at its start and after each epoch."""
        self.make([number])
        return self._trajectories[number]

    def new_network(self) -> Network:
        """Return an untrained network as experts are; its weights are from the global generator."""
        if self.representations is None:
            return self.problem.new_network()
        return self.problem.new_network(self.representations.target.dim)

    def augment(self, x: Tensor, generator: Generator) -> Tensor:  # (B, C, H, W)
        """Return images as experts see them."""
        return x if self.representations else Dsa()(x, generator)

    def targets(self, index: Tensor) -> Tensor:  # (B,) int64 -> (B,) int64 or (B, D)
        """Return what experts learn of source images, on the device."""
        if self.representations:
            return self.representations(index, torch.zeros_like(index))
        return self.problem.machine.to_device(self.problem.labels[index])

    def mean_losses(self, count: int) -> Tensor:  # (N,), on the CPU
        """Return the squared error of each source image after one epoch, averaged over experts."""
        machine, source, training = self.problem.machine, self.source, self.training
        self.make(range(count))
        # in random batches, whose statistics batch norm uses here
        order = torch.randperm(len(source), generator=fork(training.seed, "losses"))
        batches = torch.split(order, training.batch)
        losses = torch.zeros(len(source), device=machine.device)
        with seeded(training.seed, "losses"):
            network = self.new_network()
        with torch.no_grad(), progress_bar("losses", 0, count * len(batches)) as reporter:
            for number in range(count):
                theta = machine.to_device(self.trajectory(number)[1])
                for done, index in enumerate(batches):
                    x = self.problem.network_input(index, source)
                    outputs = functional_forward(network, theta, x, machine)
                    squared_errors = (outputs - self.targets(index)).square().mean(1)
                    losses[machine.to_device(index)] += squared_errors
                    if reporter.due():
                        reporter.update(number * len(batches) + done + 1, {})
        return losses.cpu() / count

    @cached_property
    def identity(self) -> Json:
        """Everything that the experts depend on; the device is left out, as in all identities."""
        problem, target = self.problem, self.representations and self.representations.target
        return {
            "source": problem.images.fingerprint,
            "normalizer": problem.images.normalizer.statistics,
            "outputs": target.dim if target else problem.images.num_classes,
            **({"target": target.fingerprint} if target else {}),
            "network": {"name": public_name(problem.network), **to_json(problem.network)},
            "training": to_json(self.training),
            "augmentation": None if target else to_json(Dsa()),
            "precision": problem.machine.precision,
            "version": FORMAT_VERSION,
        }

    def _file(self, number: int) -> Path | None:
        if self.problem.cache is None:
            return None
        digest = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()
        return self.problem.cache / "experts" / digest[:16] / f"{number}.safetensors"

    def _metadata(self, number: int) -> dict[str, str]:
        identity = json.dumps({**self.identity, "number": number}, sort_keys=True)
        return {"format": FORMAT, "format_version": str(FORMAT_VERSION), "facts": identity}

    def _find(self, number: int) -> bool:
        """Return whether an expert is in memory, or cached: then it is memory-mapped."""
        file = self._file(number)
        if number in self._trajectories:
            return True
        if file is None or not file.exists():
            return False
        try:
            tensors, metadata = read_checked(file, FORMAT, FORMAT_VERSION)
        except ArtefactError as error:
            logger.info(f"expert {number} is trained again: {error}")
            return False
        if metadata != self._metadata(number):
            logger.info(f"expert {number} is trained again: {file} is of another expert")
            return False
        self._trajectories[number] = tensors["parameters"]
        return True

    def _train(self, number: int, show: Callable[[int, Tensor], None]) -> Tensor:
        """Train an expert; `show` is called with the number of each step, from 1, and its loss."""
        training, machine, step = self.training, self.problem.machine, 0
        with seeded(training.seed, "expert", number):
            network = self.new_network()
            sgd = Sgd(training.lr, training.momentum, training.weight_decay)
            optimizer = sgd.make(network.parameters())
            batches = Batches.over(
                len(self.source), fork(training.seed, "expert", number, "batches")
            )
            augmentation = fork(training.seed, "expert", number, "augmentation")
            trajectory = [flat_parameters(network).cpu()]
            for epoch in range(1, training.epochs + 1):
                for _ in range(ceil(len(self.source) / training.batch)):
                    index = batches.draw(training.batch)
                    x = self.augment(self.problem.network_input(index, self.source), augmentation)
                    y = self.targets(index)
                    loss = train_step(network, optimizer, self.loss, x, y, machine)
                    show(step := step + 1, loss)
                trajectory.append(flat_parameters(network).cpu())
                if not trajectory[-1].isfinite().all():
                    raise NotFiniteError(
                        f"expert {number}: its parameters are not finite after epoch {epoch};"
                        " lower --method.expert_lr (of mtt, mkdt or high-loss)"
                    )
        return torch.stack(trajectory)


def flat_parameters(network: Network) -> Tensor:  # (P,)
    """Return a copy of all parameters in one vector, in the order of `parameters()`."""
    return torch.cat([p.detach().reshape(-1) for p in network.parameters()])


def functional_forward(network: Network, theta: Tensor, x: Tensor, machine: Machine) -> Tensor:
    """Return outputs (B, K) of a network with all its parameters taken from θ (P,), for x.

    The network must be in training mode: batch norm then uses the statistics of each batch, and
    the running statistics in its buffers are not used.
    """
    learned = dict(network.named_parameters())
    parts = torch.split(theta, [p.numel() for p in learned.values()])
    parameters = {
        name: part.view(p.shape) for (name, p), part in zip(learned.items(), parts, strict=True)
    }
    return machine.forward(lambda x: functional_call(network, parameters, (x,)), x)


def source_representations(problem: Problem) -> TargetCache:
    """Return the representations of all source images, not augmented, computed once."""
    return TargetCache(
        problem.needed_target,
        problem.images,
        CropFlip(padding=0, flip=False),
        mode="full",
        precision="float32",
        folder=problem.cache,
    )
