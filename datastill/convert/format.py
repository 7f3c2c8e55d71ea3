"""Formats of other projects: recognize and read the files of a distilled set."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from datastill.convert.torch_file import in_memory
from datastill.core.errors import ArtefactError, NotFiniteError
from datastill.core.options import check_bounds
from datastill.distilled_set import PixelSpace, TargetKind
from datastill.images import Normalizer
from datastill.target_model import TargetModel


@dataclass(frozen=True)
class Metadata:
    """The metadata of a set beside its tensors; None where it is unknown."""

    method: str | None = None  # what made the set, such as dsa
    source: str | None = None  # what was distilled, such as cifar10
    pixel_space: PixelSpace | None = None
    target_kind: TargetKind | None = None
    num_classes: int | None = None  # K, for hard labels
    normalizer: Normalizer | None = None  # that turned unit pixels into normalized ones


@dataclass(frozen=True, eq=False)
class LoadedSet:
    """The tensors of a foreign set, and what its format implies."""

    images: Tensor  # (M, C, H, W) float32
    targets: Tensor  # (M,) or (M, D), of the type that the file has
    files: tuple[Path, ...]
    implied: Metadata
    missing: tuple[str, ...] = ()  # flags that the format itself needs, with reasons
    statistics: Mapping[str, Normalizer] = field(default_factory=dict)  # the writer's, by source
    target: TargetModel | None = None  # whose representations the targets are
    classes: tuple[str, ...] = ()  # class names in label order, where they are known


@dataclass(frozen=True)
class Format(ABC):
    """A way in which some project stores distilled sets. Fields are options of the reader."""

    looks_like: ClassVar[str]  # its file names, for people
    takes_target: ClassVar[bool] = False  # whether a target model can make the targets

    def __post_init__(self) -> None:
        check_bounds(self)

    @abstractmethod
    def matches(self, path: Path) -> bool:
        """Return whether a file or folder is of this format, by names alone."""

    @abstractmethod
    def read(self, path: Path, target: TargetModel | None) -> LoadedSet:
        """Read a file or folder.

        Raises:
            DatastillError: it is damaged, of another kind, or ambiguous.
        """


def checked_pair(
    images: Any, targets: Any, files: tuple[Path, ...]
) -> tuple[Tensor, Tensor]:  # (M, C, H, W) float32, and (M,) or (M, D)
    """Copy the images in the precision of the artefact, and the targets as they are.

    Args:
        images: What a file has in the place of images.
        targets: What a file has in the place of labels or representations.
        files: Where the images come from, then (perhaps the same file) the targets.

    Raises:
        ArtefactError: They are no tensors, or their shapes or types make no distilled set.
        NotFiniteError: A value is NaN or infinite.
    """
    pair = []
    for name, value, file in (("images", images, files[0]), ("labels", targets, files[-1])):
        if not isinstance(value, Tensor) or value.is_complex():
            content = value.dtype if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise ArtefactError(
                f"{file}: the {name} are {content}, not a tensor of numbers; is --format right?"
            )
        pair.append(in_memory(value, file))
        if not bool(pair[-1].isfinite().all()):
            raise NotFiniteError(
                f"{file}: the {name} have values that are not finite; take those of an earlier step"
            )
    images, targets = pair
    if images.dim() != 4 or images.shape[2] != images.shape[3] or not images.is_floating_point():
        raise ArtefactError(
            f"{files[0]}: the images are {images.dtype} {tuple(images.shape)}; expected square"
            " floating-point images (M, C, H, W)"
        )
    if len(images) == 0 or targets.dim() not in (1, 2) or len(targets) != len(images):
        raise ArtefactError(
            f"{files[-1]}: targets {tuple(targets.shape)} do not fit {len(images)} images; expected"
            " (M,) class labels or (M, D) numbers. Do both files come from the same step?"
        )
    return images.to(torch.float32), targets
