"""The interface of distillation methods, and the problem that they solve."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor

from datastill.augment.crop_flip import CropFlip
from datastill.core.errors import ConfigError
from datastill.core.lookup import public_name
from datastill.core.machine import Machine
from datastill.core.options import to_json
from datastill.core.progress import logger
from datastill.core.ranks import Ranks
from datastill.core.rng import fork
from datastill.core.run_folder import versions
from datastill.distilled_set import DistilledSet, PixelSpace, TargetKind
from datastill.images import ImageSet, Normalizer
from datastill.networks.architecture import Architecture, Network
from datastill.networks.convnet import ConvNet
from datastill.stored_form.compression import MOST_COMPONENTS, Compression, Encoder, Mosaics
from datastill.stored_form.stored import TargetBasis
from datastill.target_cache import TargetCache
from datastill.target_model import TargetModel

State = TypeVar("State")
BASIS_IMAGES = 10_000  # source images at most that the basis of int8 targets is fitted to


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
        compression: How the set is stored. `label-solve` and `krr-st` then start from images as
            they will be decoded. None: in float32.
        start_set: A set with M representations that `label-solve` and `krr-st` start from, in
            place of source images.
        choice: The table by which `choose_form` chose count and stored form, kept as provenance.

    Raises:
        ConfigError: `count` is not within 1 and N, the images are too small for the network, the
            target model was made for other images, or `start_set` does not fit.

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
    compression: Compression | None = None
    start_set: DistilledSet | None = None
    choice: dict[str, list[Any]] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.count <= len(self.images):
            raise ConfigError(
                f"count={self.count} distilled images were asked of {self.images.name}, which has"
                f" {len(self.images)}; choose --count from 1 to {len(self.images)}"
            )
        self.network.check(self.images.image_size)
        if self.target is not None:
            self.target.check_images(self.images)
        if self.start_set is not None:
            self._check_start(self.start_set)

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

    @cached_property
    def target_basis(self) -> TargetBasis | None:
        """The basis of representations that are stored as int8 codes; else None.

        The principal axes of the target model's outputs on a random part of the source, the same
        for all seeds. Those of the set's own targets would be poor where M is small.
        """
        if self.compression is None or self.compression.targets not in (None, "int8"):
            return None
        sample = self.images.unlabelled().limit(BASIS_IMAGES, seed=0)
        views, target = CropFlip(0, flip=False), self.needed_target
        cache = TargetCache(
            target, sample, views, mode="full", precision="float32", folder=self.cache
        )
        components = self.compression.components or MOST_COMPONENTS
        return TargetBasis.principal(cache.values.cpu(), components).first(components)

    def coordinates(self, g: Tensor) -> Tensor:  # (B, dim) -> (B, D)
        """Return the targets that a network learns in place of the target model's outputs.

        Coordinates in `target_basis` where there is one, else the outputs themselves.
        """
        basis = self._basis_on_device
        return g if basis is None else basis.project(g)

    @cached_property
    def _basis_on_device(self) -> TargetBasis | None:
        basis, to_device = self.target_basis, self.machine.to_device
        return basis and TargetBasis(to_device(basis.mean), to_device(basis.basis))

    def stored(self, distilled: DistilledSet) -> DistilledSet:
        """Return a set as its file will have it: as it is where there is no compression.

        Raises:
            ConfigError: It does not fit in the bytes, or the options do not fit it.
        """
        if self.compression is None:
            return distilled
        represented = distilled.target_kind == "representation"
        return distilled.encoded(
            self.encoder(distilled, self.target_basis if represented else None)
        )

    def encoder(self, distilled: DistilledSet, basis: TargetBasis | None) -> Encoder:
        """Prepare to encode a set, whose targets are coordinates in a basis if there is one."""
        assert self.compression is not None, "else nothing is encoded"
        return distilled.encoder(
            self.compression, basis, in_basis=basis is not None, mosaics=self._mosaics
        )

    @cached_property
    def _mosaics(self) -> Mosaics:
        """What was encoded: the last encoding of images that stay as they are finds it."""
        return {}

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
            **self._form_identity,
        }

    @property
    def _form_identity(self) -> dict[str, Any]:
        """What is chosen of the stored form and of the start; empty by default."""
        identity: dict[str, Any] = {}
        if self.compression is not None:
            options = to_json(self.compression)
            identity["compression"] = {k: v for k, v in options.items() if v is not None}
        if self.start_set is not None:
            identity["start"] = {
                "method": self.start_set.method,
                "fingerprint": self.start_set.fingerprint,
            }
        if self.choice is not None:
            identity["choice"] = self.choice
        return identity

    def _check_start(self, start: DistilledSet) -> None:
        shape = (self.count, self.images.channels, *2 * [self.images.image_size])
        if start.target_kind != "representation" or start.pixel_space == "raw":
            raise ConfigError(
                f"the set to start from has {start.target_kind} targets and {start.pixel_space}"
                " pixels; expected representations, and unit or normalized pixels"
            )
        if start.images.shape != shape:
            raise ConfigError(
                f"the set to start from has images {tuple(start.images.shape)}, expected {shape}"
            )
        dim = None if self.target is None else self.target.dim
        if start.target_outputs.shape[1] != dim:
            raise ConfigError(
                f"the set to start from has targets of {start.target_outputs.shape[1]} numbers, the"
                f" target model {dim}; give the target model that it was made with"
            )


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
    soft_labels: ClassVar[bool] = False  # the targets are numbers for each class
    shares_work: ClassVar[bool] = False  # several ranks are faster than one
    takes_start_set: ClassVar[bool] = False  # the problem may have a set to start from
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
        if problem.start_set is not None and not self.takes_start_set:
            raise ConfigError(f"{name} starts from source images; leave out the set to start from")
        if problem.compression is not None:
            self._check_budget(problem)
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

    def _check_budget(self, problem: Problem) -> None:
        """Refuse a stored form that as many random source images cannot have."""
        if getattr(self, "zca", False):
            raise ConfigError(
                f"no codec stores whitened images; give {public_name(self)} zca=False"
            )
        index = torch.randperm(len(problem.images), generator=fork(problem.seed, "random-subset"))
        random, encoder = self.sized(problem, index[: problem.count])
        encoder.check_budget(random.size_of)

    def sized(self, problem: Problem, index: Tensor) -> tuple[DistilledSet, Encoder]:
        """Return source images (M,) with targets of zeros, and their encoder: to know file sizes.

        Only for a problem with a `compression`.
        """
        form, basis = problem.compression, None
        kind: TargetKind = "hard-label"
        targets = torch.zeros(len(index), dtype=torch.int64)
        if self.soft_labels:
            kind, targets = "soft-label", torch.zeros(len(index), problem.images.num_classes)
        if self.needs_target and form is not None:  # the basis takes long, its file size does not
            kind, dim = "representation", problem.needed_target.dim
            if form.targets in (None, "int8"):
                columns = min(form.components or MOST_COMPONENTS, dim)
                basis = TargetBasis(torch.zeros(dim), torch.eye(dim, columns))
                dim = columns
            targets = torch.zeros(len(index), dim)
        images = problem.images.unit_pixels(index)
        pairs = self.pack(problem, images, targets, target_kind=kind, pixel_space="unit")
        return pairs, problem.encoder(pairs, basis)

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
