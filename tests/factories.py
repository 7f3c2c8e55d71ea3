"""Toys that many tests share: a few tiny images, an untrained target model, small problems."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from datastill.core.loop import CheckpointConfig
from datastill.core.machine import Machine
from datastill.core.rng import fork, seeded
from datastill.distill import distill
from datastill.distilled_set import DistilledSet
from datastill.images import ImageSet, Normalizer
from datastill.methods.random_subset import RandomSubset
from datastill.networks.architecture import Network
from datastill.networks.convnet import ConvNet
from datastill.problem import Problem
from datastill.target_model import TargetModel
from datastill.transfer.task import Task, TaskContext, TaskData, TaskResult

NETWORK = ConvNet(widths=(4, 8))


class KilledError(Exception):
    """Stands for the signal that ends a process between two steps."""


def toy_images(
    count: int = 24, *, size: int = 8, channels: int = 1, classes: int = 4, name: str = "toy/train"
) -> ImageSet:
    """Noise over one flat pattern per class: class k is easy to tell from the others."""
    generator = fork(0, name, count, size)
    labels = torch.arange(count) % classes
    patterns = torch.randint(0, 150, (classes, channels, size, size), generator=fork(0, "patterns"))
    noise = torch.randint(0, 100, (count, channels, size, size), generator=generator)
    images = (patterns[labels] + noise).to(torch.uint8)
    words = tuple(f"class-{k}" for k in range(classes))
    return ImageSet(name, images, Normalizer.of(images), labels, words)


def toy_task(count: int = 24, *, size: int = 8, channels: int = 1) -> TaskData:
    """Labelled toy images for training and for testing."""
    train = toy_images(count, size=size, channels=channels)
    test = toy_images(16, size=size, channels=channels, name="toy/test")
    return TaskData("toy", train, test)


def toy_target(images: ImageSet, *, outputs: int = 5, seed: int = 0) -> TargetModel:
    """An untrained network as target model, its outputs standardized on the images."""
    with seeded(seed, "toy-target"):
        network = NETWORK(image_size=images.image_size, channels=images.channels, outputs=outputs)
    provenance = {"source": {"name": images.name}}
    plain = TargetModel(
        network, images.normalizer, images.image_size, architecture=NETWORK, provenance=provenance
    )
    return plain.standardized(images)


def toy_problem(count: int = 6, *, seed: int = 0, images: ImageSet | None = None) -> Problem:
    """Toy images, toy target model and a small network."""
    images = images or toy_images()
    return Problem(images, toy_target(images), count, seed=seed, network=NETWORK)


def moved(problem: Problem, machine: Machine) -> Problem:
    """The same problem, to be solved elsewhere, with nothing of what is filled on demand."""
    known = problem.needed_target
    target = replace(known, module=deepcopy(known.module), machine=machine)
    return replace(problem, target=target, machine=machine)


def toy_set(count: int = 12) -> DistilledSet:
    """Some of the toy images, with representations as targets."""
    return distill(RandomSubset(), toy_problem(count))


def toy_network(*, seed: int = 0, outputs: int = 5) -> Network:
    """A small network in evaluation mode."""
    with seeded(seed, "source-network"):
        return NETWORK(image_size=8, channels=1, outputs=outputs).eval()


def measured(
    task: Task,
    *,
    seed: int = 0,
    data: TaskData | None = None,
    network: Network | None = None,
    distilled: DistilledSet | None = None,
) -> list[TaskResult]:
    """What a task says of a network on toy data."""
    data = data or toy_task()
    outputs = data.train.num_classes if task.evaluates_outputs else 5
    network = network or toy_network(outputs=outputs)
    return task.measure(TaskContext(network, NETWORK, seed, distilled=distilled), data)


def embedded(network: Network, images: ImageSet) -> Tensor:
    """Body features of all images, in double precision."""
    with torch.no_grad():
        return network.embed(images.normalized(slice(None))).double()


def logged(folder: Path, metric: str) -> list[Any]:
    """A metric in every line of a run's log; None where a line lacks it."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line).get(metric) for line in lines]


def always_saving(folder: Path, identity: dict[str, Any] | None = None) -> CheckpointConfig:
    """A checkpoint after every step."""
    return CheckpointConfig(folder / "checkpoint.safetensors", identity or {}, every_seconds=0.0)


def killed_at(
    step: int,
    function: Callable[..., Any],
    *,
    after: bool = False,
    by: type[BaseException] = KilledError,
) -> Any:
    """`function`, but its call number `step` (from 0) ends the run, before or after its work."""
    calls = iter(range(10**9))

    def dying(*args: Any, **kwargs: Any) -> Any:
        number = next(calls)
        if number == step and not after:
            raise by
        result = function(*args, **kwargs)
        if number == step:
            raise by
        return result

    return dying


@contextmanager
def killed(
    owner: Any, name: str, step: int, *, after: bool = False, by: type[BaseException] = KilledError
) -> Iterator[None]:
    """Inside, call number `step` of `owner.name` ends the run, as `killed_at` says."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(by):
        patch.setattr(owner, name, killed_at(step, getattr(owner, name), after=after, by=by))
        yield


def weights(network: torch.nn.Module) -> list[Tensor]:
    """Copies of all parameters and buffers."""
    return [value.detach().clone() for value in network.state_dict().values()]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    """Whether two lists of tensors are equal bit for bit."""
    return len(one) == len(other) and all(map(torch.equal, one, other))
