"""The interface of distillation methods, and the problem that they solve."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor

from datastill.core.errors import ConfigError
from datastill.core.lookup import public_name
from datastill.core.machine import Machine
from datastill.core.options import to_json
from datastill.core.progress import logger
from datastill.core.ranks import Ranks
from datastill.core.run_folder import versions
from datastill.distilled_set import DistilledSet, PixelSpace, TargetKind
from datastill.images import ImageSet, Normalizer
from datastill.networks.architecture import Architecture, Network
from datastill.networks.convnet import ConvNet
from datastill.target_model import TargetModel

State = TypeVar("State")


@dataclass(frozen=True, eq=False)
class Problem:
    """What is distilled: a source, a target model and a number of images. It never changes.

    Args:
        images: The source, N images.
        target: The target model of methods that learn from representations; None for the others.
        count: Number of distilled images, M.
        seed: Root of all random streams.
        network: Architecture of the inner models.
        machine: Device, precision and ranks that are used.
        cache: Folder for what can be computed again and shared between runs (target
            representations, expert trajectories). None: in memory only.

    Raises:
        ConfigError: `count` is not within 1 and N, the images are too small for the network, or the
            target model was made for other images.

    Example:
        >>> import datastill as ds
        >>> ds.Problem(ds.source("digits").load("train"), None, count=10).by_class[3].shape
        torch.Size([106])
    """

    images: ImageSet
    target: TargetModel | None
    count: int
    seed: int = 0
    network: Architecture = ConvNet()
    machine: Machine = Machine()
    cache: Path | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.count <= len(self.images):
            raise ConfigError(
                f"count={self.count} distilled images were asked of {self.images.name}, which has"
                f" {len(self.images)}; choose --count from 1 to {len(self.images)}"
            )
        self.network.check(self.images.image_size)
        if self.target is not None:
            self.target.check_images(self.images)

    @property
    def ranks(self) -> Ranks:
        """The ranks that distil together."""
        return self.machine.ranks

    @property
    def needed_target(self) -> TargetModel:
        """The target model of a method that needs one."""
        assert self.target is not None, "Method.check refuses this before any work"
        return self.target

    @property
    def labels(self) -> Tensor:  # (N,) int64
        """The labels of the source, for a method that needs them."""
        assert self.images.labels is not None, "Method.check refuses this before any work"
        return self.images.labels

    def represent(self, index: Tensor) -> Tensor:  # (B,) int64 -> (B, D)
        """Return the target representations of source images, not augmented."""
        return self.needed_target.represent_images(self.images.take(index))

    def source_pixels(self, index: Tensor) -> Tensor:  # (B,) int64 -> (B, C, H, W) uint8
        """Return the bytes of source images, on the device."""
        return self.images.pixels(index, self.machine.device)

    def network_input(self, index: Tensor, source: ImageSet | None = None) -> Tensor:
        """Return normalized pixels (B, C, H, W) of source images (B,), on the device.

        `source` is the whitened source where a method whitens.
        """
        return (source or self.images).normalizer(self.source_pixels(index).float() / 255)

    def whitened_source(self, ridge_of_mean: float) -> ImageSet:
        """Return the source with a normalizer that whitens by ZCA, on the device."""
        logger.info(f"computing the whitening of {self.images.name}")
        whitened = self.images.whitened(ridge_of_mean)
        return whitened.with_normalizer(whitened.normalizer.to(self.machine.device))

    def new_network(self, outputs: int | None = None) -> Network:
        """Return an untrained network, weights from the global generator.

        Without a number of outputs it classifies the source.
        """
        return self.machine.to_device(
            self.network(
                image_size=self.images.image_size,
                channels=self.images.channels,
                outputs=outputs or self.images.num_classes,
            )
        ).train()

    @cached_property
    def by_class(self) -> list[Tensor]:
        """Indices of the source images of each class: K tensors (n_k,) int64."""
        return [torch.nonzero(self.labels == k).flatten() for k in range(self.images.num_classes)]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The values that identify this problem: stored in artefacts, compared on resume."""
        return {
            "source": {"name": self.images.name, "fingerprint": self.images.fingerprint},
            "target": self.target
            and {
                "fingerprint": self.target.fingerprint,
                **self.target.provenance,
            },
            "network": {"name": public_name(self.network), **to_json(self.network)},
            "count": self.count,
            "seed": self.seed,
            "precision": self.machine.precision,
        }


@dataclass(frozen=True)
class Method(ABC, Generic[State]):
    """A way to make a distilled set. Its frozen fields are the hyperparameters.

    `distill` calls `check` and `init`, then `warm_up_step` `warm_up_length` times (none unless a
    method has a warm-up), then `step` `length` times, then `result`. Whatever changes meanwhile is
    in the state, a dataclass whose fields are what a checkpoint holds: tensors, generators,
    optimizers, networks, numbers, and lists or dataclasses of these. What `init` computes again
    after a resume, such as a `TargetCache`, is an attribute of the state that is no field (see
    `KRRSTState`).

    A new method is one file in `datastill/methods`; docs/extend.md has a complete one.

    Raises:
        ConfigError: `check` refuses the problem, or an option is outside of its bounds.

    Example:
        >>> import datastill as ds
        >>> problem = ds.Problem(ds.source("digits").load("train"), None, count=10)
        >>> method = ds.RandomSubset(targets="class-label", balanced=True)
        >>> method.result(problem, method.init(problem)).targets.sort().values
        tensor([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    """

    variant_options: ClassVar[tuple[str, ...]] = ()  # options that make another row in tables
    uses_full_source: ClassVar[bool] = False  # the count must be that of the source
    no_target_hint: ClassVar[str] = ""  # flags with which no target model is needed
    is_stochastic: ClassVar[bool] = True  # another seed can give another set
    by_class: ClassVar[bool] = False  # every class gets the same number of images
    shares_work: ClassVar[bool] = False  # several ranks are faster than one
    default_network: ClassVar[Architecture] = ConvNet()  # of inner models, as published

    @property
    def needs_target(self) -> bool:
        """Whether the problem must have a target model; not, unless a method says so."""
        return False

    @property
    def needs_labels(self) -> bool:
        """Whether the source must have labels; those with as many images per class need them."""
        return self.by_class

    def check(self, problem: Problem) -> None:
        """Refuse a problem that this method cannot solve, before any work.

        Raises:
            ConfigError: a target model or labels are missing, or the count does not fit, or many
                ranks would all do the same.
        """
        name = public_name(self)
        if problem.ranks.size > 1 and not self.shares_work:
            raise ConfigError(
                f"{name} does not share its work among ranks, and {problem.ranks.size} were"
                " started; start it without torchrun"
            )
        if self.needs_target and problem.target is None:
            without = self.no_target_hint and f", or do without one by {self.no_target_hint}"
            raise ConfigError(
                f"{name} needs a target model; make one with"
                f" 'datastill target --data NAME --out DIR' and pass --target DIR{without}"
            )
        if self.needs_labels and problem.images.labels is None:
            raise ConfigError(f"{name} needs labels, and {problem.images.name} has none")
        if self.uses_full_source and problem.count != len(problem.images):
            raise ConfigError(
                f"{name} takes all {len(problem.images)} images of {problem.images.name};"
                f" pass --count all instead of {problem.count}"
            )
        if not self.by_class:
            return
        classes, smallest = len(problem.by_class), min(map(len, problem.by_class), default=0)
        if smallest == 0:
            raise ConfigError(
                f"{problem.images.name} has a class without images; {name} needs some of each"
            )
        if problem.count % classes:
            raise ConfigError(
                f"{name} makes the same number of images for each of the {classes} classes of"
                f" {problem.images.name}; pass --count a multiple of {classes} instead of"
                f" {problem.count}"
            )
        if problem.count // classes > smallest:
            raise ConfigError(
                f"{name} was asked for {problem.count // classes} images per class of"
                f" {problem.images.name}, whose smallest class has {smallest}; lower --count"
            )

    def short_preparations(self) -> tuple[Self, Self, int] | None:
        """For estimates: return how `init` can be cut short; None where it is short already.

        Returns:
            This method with one round of its preparation, with two, and the number of all rounds.
        """
        return None

    @abstractmethod
    def length(self, problem: Problem) -> int:
        """Return the number of steps."""

    @abstractmethod
    def init(self, problem: Problem) -> State:
        """Return the state before the first step."""

    def warm_up_length(self, problem: Problem) -> int:
        """Return the number of warm-up steps: a stage of its own before the first step."""
        return 0

    def warm_up_step(self, problem: Problem, state: State) -> dict[str, Tensor | float | int]:
        """Take one warm-up step, in place; return its metrics."""
        raise NotImplementedError(f"{public_name(self)} has no warm-up")

    @abstractmethod
    def step(self, problem: Problem, state: State) -> dict[str, Tensor | float | int]:
        """Take one step, in place; return its metrics, which are logged."""

    @abstractmethod
    def result(self, problem: Problem, state: State) -> DistilledSet:
        """Return a copy of the distilled set that the state holds now."""

    def identity(self) -> dict[str, Any]:
        """Return name and all hyperparameters."""
        return {"name": public_name(self), "variant": self.variant, "options": to_json(self)}

    @property
    def variant(self) -> str:
        """What distinguishes this row of a table from the defaults, such as `stale_pool`."""
        defaults = {f: type(self).__dataclass_fields__[f].default for f in self.variant_options}
        changed = {k: getattr(self, k) for k, d in defaults.items() if getattr(self, k) != d}
        return ", ".join(k if v is True else f"{k}={v}" for k, v in changed.items())

    def pack(
        self,
        problem: Problem,
        images: Tensor,
        targets: Tensor,
        *,
        target_kind: TargetKind,
        pixel_space: PixelSpace,
        normalizer: Normalizer | None = None,
        learned: dict[str, float] | None = None,
    ) -> DistilledSet:
        """Return an artefact with copies of the tensors, and with problem and method as provenance.

        Args:
            problem: What was distilled.
            images: (M, C, H, W) in `pixel_space`.
            targets: (M, D), (M, K), or (M,) class numbers, as `target_kind` says.
            target_kind: Decides how networks are pre-trained on the set.
            pixel_space: Whether the images are unit or normalized pixels.
            normalizer: Replaces the source's where the method whitens.
            learned: Numbers that were learned beside the images, such as a learning rate.
        """
        classes = problem.images.classes
        return DistilledSet(
            images.detach().cpu().clone(),
            targets.detach().cpu().clone(),
            target_kind=target_kind,
            pixel_space=pixel_space,
            normalizer=(normalizer or problem.images.normalizer).to("cpu"),
            provenance={
                "method": self.identity(),
                **({"learned": learned} if learned else {}),
                **problem.identity,
                "classes": list(classes),
                "num_classes": len(classes),
                "versions": versions(),
            },
        )
