"""The interface of distillation methods."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor

from datastill.core.errors import ConfigError
from datastill.core.lookup import public_name
from datastill.core.options import to_json
from datastill.core.rng import fork
from datastill.core.run_folder import versions
from datastill.distilled_set import DistilledSet, PixelSpace, TargetKind
from datastill.images import Normalizer
from datastill.networks.architecture import Architecture
from datastill.networks.convnet import ConvNet
from datastill.problem import Problem
from datastill.stored_form.compression import MOST_COMPONENTS, Encoder
from datastill.stored_form.stored import TargetBasis

State = TypeVar("State")


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
