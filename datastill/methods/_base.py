"""What a distillation method is, and the problem that it solves."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor

from datastill.artefact import DistilledSet, PixelSpace, TargetKind
from datastill.augment.crop_flip import CropFlip
from datastill.ground.errors import ConfigError
from datastill.ground.lookup import public_name
from datastill.ground.machine import Machine
from datastill.ground.options import to_json
from datastill.ground.run_folder import versions
from datastill.ground.world import World
from datastill.images import ImageSet, Normalizer
from datastill.networks._base import AbstractArchitecture
from datastill.networks.convnet import ConvNet
from datastill.target_bank import Keeping, TargetBank
from datastill.target_model import TargetModel

State = TypeVar("State")


@dataclass(frozen=True, eq=False)
class Problem:
    """Everything that is fixed during a distillation; never part of a checkpoint."""

    images: ImageSet  # the source, N images
    target: TargetModel | None
    count: int  # M
    seed: int = 0
    network: AbstractArchitecture = ConvNet()  # of the inner models
    machine: Machine = Machine()
    banks: dict[tuple[CropFlip, Keeping], TargetBank] = field(
        default_factory=dict, repr=False
    )  # filled on demand
    whitenings: dict[float, Normalizer] = field(default_factory=dict, repr=False)  # likewise
    experts: dict[str, Tensor] = field(default_factory=dict, repr=False)  # likewise, by their key
    cache: Path | None = None  # folder for what may be made again; None: memory only

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
    def world(self) -> World:
        """The ranks that distil together."""
        return self.machine.world

    @property
    def needed_target(self) -> TargetModel:
        """The target model, for methods that have said that they need one."""
        assert self.target is not None, "AbstractMethod.check refuses this before any work"
        return self.target

    def represent(self, index: Tensor) -> Tensor:  # (B,) int64 -> (B, D)
        """g of some source images, not augmented."""
        return self.needed_target.represent_images(self.images.take(index))

    def real(self, index: Tensor) -> Tensor:  # (B,) int64 -> (B, C, H, W) uint8, on the device
        """The bytes of some source images."""
        return self.images.pixels(index, self.machine.device)

    def bank(self, crop_flip: CropFlip, keeping: Keeping) -> TargetBank:
        """g of every view of every source image; a full one is filled at the first call.

        Problems made from this one by `dataclasses.replace` (of count and seed) share it.
        """
        if (crop_flip, keeping) not in self.banks:
            bank = TargetBank(self.needed_target, self.images, crop_flip, keeping, self.cache)
            if keeping.filling == "full":
                bank.fill()
            self.banks[crop_flip, keeping] = bank
        return self.banks[crop_flip, keeping]

    def whitened(self, ridge_of_mean: float) -> ImageSet:
        """The source with a normalizer that whitens, on the device; fitted at the first call."""
        if ridge_of_mean not in self.whitenings:
            fitted = self.images.whitened(ridge_of_mean).normalizer
            self.whitenings[ridge_of_mean] = fitted.to(self.machine.device)
        return self.images.normalized_by(self.whitenings[ridge_of_mean])

    @cached_property
    def by_class(self) -> list[Tensor]:
        """Indices of the source images of each class: K tensors (n_k,) int64."""
        labels = self.images.labels
        assert labels is not None, "AbstractMethod.check refuses this before any work"
        return [torch.nonzero(labels == k).flatten() for k in range(self.images.num_classes)]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What makes this problem this one: stored in artefacts, compared on resume."""
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
class AbstractMethod(ABC, Generic[State]):
    """How a distilled set is made. Fields are hyperparameters; the state is a dataclass apart.

    `distill.distill` calls `check`, `init`, then `step` `length` times, then `result`.
    """

    variant_options: ClassVar[tuple[str, ...]] = ()  # options that make another row in tables
    takes_all: ClassVar[bool] = False  # whether the count must be that of the source
    without_target: ClassVar[str] = ""  # words by which no target model is needed, if there are any
    draws: ClassVar[bool] = True  # whether another seed can give another set
    by_class: ClassVar[bool] = False  # whether every class gets the same number of images
    shares_work: ClassVar[bool] = False  # whether many ranks are faster than one
    default_network: ClassVar[AbstractArchitecture] = ConvNet()  # of inner models, as published

    @property
    @abstractmethod
    def needs_target(self) -> bool:
        """Whether the problem must have a target model."""

    @property
    @abstractmethod
    def needs_labels(self) -> bool:
        """Whether the source must have labels."""

    def check(self, problem: Problem) -> None:
        """Refuse a problem that this method cannot solve, before any work.

        Raises:
            ConfigError: a target model or labels are missing, or the count does not fit, or many
                ranks would all do the same.
        """
        name = public_name(self)
        if problem.world.size > 1 and not self.shares_work:
            raise ConfigError(
                f"{name} does not share its work among ranks, and {problem.world.size} were"
                " started; start it without torchrun"
            )
        if self.needs_target and problem.target is None:
            without = self.without_target and f", or do without one by {self.without_target}"
            raise ConfigError(
                f"{name} needs a target model; make one with"
                f" 'datastill target --data NAME --out DIR' and pass --target DIR{without}"
            )
        if self.needs_labels and problem.images.labels is None:
            raise ConfigError(f"{name} needs labels, and {problem.images.name} has none")
        if self.takes_all and problem.count != len(problem.images):
            raise ConfigError(
                f"{name} takes all {len(problem.images)} images of {problem.images.name};"
                f" pass --count all instead of {problem.count}"
            )
        if self.by_class:
            self._check_classes(problem, name)

    def _check_classes(self, problem: Problem, name: str) -> None:
        classes, fewest = len(problem.by_class), min(map(len, problem.by_class), default=0)
        if fewest == 0:
            raise ConfigError(
                f"{problem.images.name} has a class without images; {name} needs some of each"
            )
        if problem.count % classes:
            raise ConfigError(
                f"{name} makes the same number of images for each of the {classes} classes of"
                f" {problem.images.name}; pass --count a multiple of {classes} instead of"
                f" {problem.count}"
            )
        if problem.count // classes > fewest:
            raise ConfigError(
                f"{name} was asked for {problem.count // classes} images per class of"
                f" {problem.images.name}, whose smallest class has {fewest}; lower --count"
            )

    def settled(self, problem: Problem) -> Self:
        """The method with each option set that otherwise follows from the problem."""
        return self

    def short_preparations(self) -> tuple[Self, Self, int] | None:
        """For estimates: return how `init` can be cut short; None where it is short already.

        Returns:
            This method with one round of its preparation, with two, and the number of all rounds.
        """
        return None

    @abstractmethod
    def length(self, problem: Problem) -> int:
        """How many steps the method takes."""

    @abstractmethod
    def init(self, problem: Problem) -> State:
        """The state before the first step."""

    @abstractmethod
    def step(self, problem: Problem, state: State) -> dict[str, Tensor | float | int]:
        """Take one step, in place; return the metrics of this step."""

    @abstractmethod
    def result(self, problem: Problem, state: State) -> DistilledSet:
        """The distilled set that the state holds now."""

    def identity(self) -> dict[str, Any]:
        """Name and all hyperparameters."""
        return {"name": public_name(self), "variant": self.variant, "options": to_json(self)}

    @property
    def variant(self) -> str:
        """What sets this row apart from the method's defaults, such as `stale_pool`."""
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
        """Put tensors and the facts about problem and method into an artefact, on the CPU.

        `normalizer` replaces the source's where the method whitens; `learned` are numbers that were
        learned beside the images, such as a learning rate.
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
