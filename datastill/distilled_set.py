"""The artefact: distilled images and targets in one self-describing safetensors file.

The format is described in docs/artefact.md. safetensors is enough to open it;
`DistilledSet.load` also checks the SHA-256, so that a flipped bit never passes silently.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datastill.core.atomic import atomic_write
from datastill.core.errors import ArtefactError, ConfigError, NotFiniteError
from datastill.core.tensor_file import digest, file_size, read_checked, write_checked
from datastill.images import Normalizer
from datastill.ops.zca import Zca
from datastill.picture_grid import picture_grid
from datastill.stored_form.compression import Compression, Encoder, Mosaics
from datastill.stored_form.stored import Stored, TargetBasis

FORMAT = "datastill.distilled"
FORMAT_VERSION = 2  # of coded sets; those in float32 have version 1

TargetKind = Literal["hard-label", "soft-label", "representation"]
PixelSpace = Literal["unit", "normalized", "raw"]


@dataclass(frozen=True)
class SetSummary:
    """What is known of a distilled set without its images and targets."""

    fingerprint: str
    count: int  # M
    bytes: int  # of the file
    target_kind: TargetKind
    outputs: int  # of a network that learns the targets
    provenance: dict[str, Any]


@dataclass(frozen=True, eq=False)
class DistilledSet(Dataset[tuple[Tensor, Tensor]]):
    """M distilled images with their targets, and everything needed to use them.

    It is a `torch.utils.data.Dataset` of pairs (network input, target), ready for a `DataLoader`.

    Args:
        images: (M, C, H, W) float32, H = W, in the space that `pixel_space` names.
        targets: (M, D) float32, or (M,) int64 where `target_kind` is "hard-label".
        target_kind: "hard-label", "soft-label" or "representation".
        pixel_space: How the images are fed to a network: "unit" pixels go through `normalizer`
            first; "normalized" pixels are fed as they are; "raw" are unit pixels fed as they are
            (the released code of KRR-ST: docs/fidelity.md#pixels).
        normalizer: Of the source's training split; any other image that a network trained on the
            set sees goes through it.
        provenance: JSON: method, options, source, target model, seed, versions.
        stored: The encoded form of a set that was made by `compress`; images and targets are
            decoded from it. Pass None along with other images or targets.

    Raises:
        ArtefactError: Shapes, types or kinds do not fit together.
        NotFiniteError: A value is NaN or infinite.

    Example:
        >>> images = torch.rand(20, 1, 16, 16)
        >>> distilled = DistilledSet(
        ...     images, torch.arange(20) % 10, "hard-label", "unit", Normalizer((0.5,), (0.2,)),
        ...     {"method": {"name": "mine"}, "num_classes": 10},
        ... )
        >>> distilled
        <DistilledSet mine: 20 images of 1 x 16 x 16, hard-label targets (20,), unit pixels>
        >>> inputs, labels = next(iter(torch.utils.data.DataLoader(distilled, batch_size=4)))
        >>> inputs.shape, labels.tolist()
        (torch.Size([4, 1, 16, 16]), [0, 1, 2, 3])
    """

    images: Tensor
    targets: Tensor
    target_kind: TargetKind
    pixel_space: PixelSpace
    normalizer: Normalizer
    provenance: dict[str, Any]
    stored: Stored | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _check(self)

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def __repr__(self) -> str:
        method = self.provenance.get("method", {}).get("name", "of an unknown method")
        shape = " x ".join(map(str, self.images.shape[1:]))
        return (
            f"<DistilledSet {method}: {len(self)} images of {shape}, {self.target_kind} targets"
            f" {tuple(self.targets.shape)}, {self.pixel_space} pixels>"
        )

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the network input (C, H, W) and the target of one image."""
        images = self.images[index]
        inputs = self._to_network_input(images.reshape(-1, *self.images.shape[1:]))
        return inputs.reshape(images.shape), self.targets[index]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Return the pairs of a batch; a `DataLoader` calls this once per batch."""
        if len(indices) == 1:  # half the time of a list of one
            return [self[indices[0]]]
        inputs = self._to_network_input(self.images[list(indices)])
        return list(zip(inputs, self.targets[list(indices)], strict=True))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(zip(self.network_input(), self.targets, strict=True))

    @property
    def image_size(self) -> int:
        """Pixels on a side."""
        return int(self.images.shape[2])

    @property
    def channels(self) -> int:
        return int(self.images.shape[1])

    @property
    def outputs(self) -> int:
        """The number of outputs that a network needs to learn the targets: D, or K classes."""
        if self.target_kind == "hard-label":
            return int(self.provenance["num_classes"])
        return int(self.targets.shape[1])

    @cached_property
    def num_bytes(self) -> int:
        """Bytes of the file that `save` writes, without the basis of coded targets."""
        return file_size(self._tensors(), self._header(), compressed=self._compressed)

    @property
    def basis(self) -> TargetBasis | None:
        """The basis of targets that are coordinates, where it is known."""
        return None if self.stored is None else self.stored.basis

    @property
    def target_outputs(self) -> Tensor:  # (M, dim)
        """The targets as outputs of the target model, also where they are stored as coordinates.

        Raises:
            ConfigError: The basis of the coordinates is missing.
        """
        if "components" not in self.provenance.get("stored", {}):
            return self.targets
        if self.basis is None:
            raise ConfigError(
                f"the targets of this {self.method} set are coordinates, and their basis is"
                " missing; put its file *.basis.safetensors back beside the set"
            )
        return self.basis.outputs(self.targets)

    @property
    def method(self) -> str:
        """The public name of the method that made this set."""
        return str(self.provenance["method"]["name"])

    def network_input(self) -> Tensor:  # (M, C, H, W)
        """Return the images as they are fed to a network."""
        return self._to_network_input(self.images)

    def unit_pixels(self) -> Tensor:  # (M, C, H, W)
        """Return the images for display: unit pixels, clipped to [0, 1]."""
        normalized = self.pixel_space == "normalized"
        unit = self.normalizer.inverse(self.images) if normalized else self.images
        return unit.clamp(0, 1)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of images, targets and metadata: the identity of this artefact."""
        return digest(self._tensors(), self._header())

    @property
    def summary(self) -> SetSummary:
        """Everything but the images and targets."""
        return SetSummary(
            self.fingerprint,
            len(self),
            self.num_bytes,
            self.target_kind,
            self.outputs,
            self.provenance,
        )

    def to(self, device: torch.device) -> "DistilledSet":
        """Return the same set with its tensors on another device."""
        return replace(self, images=self.images.to(device), targets=self.targets.to(device))

    def describe(self) -> dict[str, Any]:
        """Return shapes, kinds and provenance as plain values, for printing and YAML."""
        return {
            "images": list(self.images.shape),
            "targets": list(self.targets.shape),
            "target_kind": self.target_kind,
            "pixel_space": self.pixel_space,
            "normalizer": self.normalizer.statistics,
            "whitened": self.normalizer.zca is not None,
            "bytes": self.num_bytes,
            "fingerprint": self.fingerprint,
            **{k: v for k, v in self.provenance.items() if k != "classes"},
        }

    def compress(
        self, *, basis: TargetBasis | None = None, **options: int | str | None
    ) -> "DistilledSet":
        """Store the set in fewer bytes, with as many images: see docs/artefact.md.

        Args:
            basis: Where the coordinates of targets come from. Default: their principal axes.
            options: Those of `Compression`, such as `bytes=80_000` or `quality=45`.

        Returns:
            The set as it will be read from its file, with what the codecs lost.

        Raises:
            ConfigError: The set is whitened, the options do not fit it, or the budget is below the
                smallest possible file.

        Example:
            >>> import datastill as ds
            >>> problem = ds.Problem(ds.source("digits").load("train"), None, count=100)
            >>> distilled = ds.distill(ds.RandomSubset(targets="class-label"), problem)
            >>> small = distilled.compress(bytes=10_000, codec="webp")
            >>> small.num_bytes <= 10_000 < distilled.num_bytes
            True
        """
        in_basis = "components" in self.provenance.get("stored", {})
        compression = Compression(**options)  # type: ignore[arg-type]  # checked inside
        return self.encoded(self.encoder(compression, basis or self.basis, in_basis=in_basis))

    def encoder(
        self,
        compression: Compression,
        basis: TargetBasis | None,
        *,
        in_basis: bool,
        mosaics: Mosaics | None = None,
    ) -> Encoder:
        """Prepare to encode this set: see `Encoder.make`.

        Raises:
            ConfigError: The set is whitened, or the options do not fit it.
        """
        if self.normalizer.zca is not None:
            raise ConfigError(
                "the images are whitened, which no codec stores; distill without whitening"
            )
        is_normalized = self.pixel_space == "normalized"
        return Encoder.make(
            self.normalizer.inverse(self.images) if is_normalized else self.images,
            self.targets,
            compression,
            num_classes=0 if self.target_kind == "representation" else self.outputs,
            basis=basis,
            in_basis=in_basis,
            mosaics=mosaics,
        )

    def encoded(self, encoder: Encoder) -> "DistilledSet":
        """Return this set as it will be read from its file.

        Raises:
            ConfigError: The budget is below the smallest possible file.
        """
        stored = encoder.smallest_loss(self.size_of)
        return replace(
            self._with(stored),
            images=stored.decoded_images(self.channels, self.image_size),
            targets=stored.decoded_targets(),
        )

    def size_of(self, stored: Stored) -> int:
        """Return the bytes of the file of this set in a stored form."""
        return self._with(stored).num_bytes

    def _with(self, stored: Stored) -> "DistilledSet":
        """Return this set with another stored form, its images and targets not yet decoded."""
        return replace(
            self,
            pixel_space="raw" if self.pixel_space == "raw" else "unit",
            provenance={**self.provenance, "stored": stored.form},
            stored=stored,
        )

    def save(self, path: Path | str) -> None:
        """Write the artefact atomically, and beside it `preview.png` and the basis of its targets.

        Args:
            path: The file, such as `distilled.safetensors`.

        Raises:
            DataError: It cannot be written.
            ArtefactError: Images or targets are others than the encoded ones.
        """
        path = Path(path)
        if self.stored is not None:
            _check_unchanged(self, self.stored)
            if self.stored.basis is not None:
                self.stored.basis.save(path)
        write_checked(path, self._tensors(), self._header(), compressed=self._compressed)
        if path.stem == "distilled":
            with atomic_write(path.with_name("preview.png")) as part:
                picture_grid(self.unit_pixels()).save(part, format="png")

    @staticmethod
    def load(path: Path | str) -> "DistilledSet":
        """Read and check an artefact.

        Args:
            path: A file, or a run folder with a `distilled.safetensors`.

        Returns:
            The set, on the CPU.

        Raises:
            ArtefactError: No such file, damaged, foreign, or from a newer format version.
        """
        path = Path(path)
        if path.is_dir():
            path = path / "distilled.safetensors"
        tensors, metadata = read_checked(path, FORMAT, FORMAT_VERSION)
        try:
            provenance = json.loads(metadata["provenance"])
            normalizer = _normalizer(json.loads(metadata["normalizer"]), tensors)
            stored = None
            if metadata["format_version"] == str(FORMAT_VERSION):
                stored = Stored.read(path, tensors, provenance["stored"])
                channels, size = len(normalizer.mean), int(metadata["image_size"])
                tensors["images"] = stored.decoded_images(channels, size)
                tensors["targets"] = stored.decoded_targets()
            distilled = DistilledSet(
                tensors["images"],
                tensors["targets"],
                target_kind=metadata["target_kind"],  # type: ignore[arg-type]  # checked inside
                pixel_space=metadata["pixel_space"],  # type: ignore[arg-type]
                normalizer=normalizer,
                provenance=provenance,
                stored=stored,
            )
            _check_provenance(distilled)
        except ArtefactError as error:
            raise ArtefactError(f"{path}: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise ArtefactError(f"{path} lacks a part of a distilled set: {error!r}") from error
        return distilled

    def _to_network_input(self, images: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        return self.normalizer(images) if self.pixel_space == "unit" else images

    @property
    def _compressed(self) -> tuple[str, ...]:
        """The keys of metadata that the file has in fewer bytes."""
        return () if self.stored is None else ("provenance",)

    def _tensors(self) -> dict[str, Tensor]:
        if self.stored is not None:
            return self.stored.tensors
        tensors = {"images": self.images, "targets": self.targets}
        if (zca := self.normalizer.zca) is not None:
            tensors |= {"zca_mean": zca.mean, "zca_matrix": zca.matrix}
        return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    def _header(self) -> dict[str, str]:
        return {
            "format": FORMAT,
            "format_version": "1" if self.stored is None else str(FORMAT_VERSION),
            "target_kind": self.target_kind,
            "pixel_space": self.pixel_space,
            "image_size": str(self.image_size),
            "normalizer": json.dumps(self.normalizer.statistics),
            "provenance": json.dumps(self.provenance, sort_keys=True),
        }


def _normalizer(statistics: dict[str, list[float]], tensors: dict[str, Tensor]) -> Normalizer:
    whitened = "zca_matrix" in tensors
    zca = Zca(tensors["zca_mean"], tensors["zca_matrix"]) if whitened else None
    return Normalizer.from_statistics(statistics, zca)


def _check(distilled: DistilledSet) -> None:
    images, targets = distilled.images, distilled.targets
    shapes = f"images {tuple(images.shape)} {images.dtype}, targets {tuple(targets.shape)}"
    if distilled.target_kind not in get_args(TargetKind):
        raise ArtefactError(f"unknown target_kind {distilled.target_kind!r}")
    if distilled.pixel_space not in get_args(PixelSpace):
        raise ArtefactError(f"unknown pixel_space {distilled.pixel_space!r}")
    if images.dim() != 4 or images.dtype != torch.float32 or images.shape[2] != images.shape[3]:
        raise ArtefactError(f"images must be square float32 (M, C, H, W); got {shapes}")
    hard = distilled.target_kind == "hard-label"
    fits = targets.dim() == (1 if hard else 2) and targets.is_floating_point() != hard
    if not fits or len(targets) != len(images) or len(images) == 0:
        raise ArtefactError(f"targets do not fit {distilled.target_kind}: {shapes}")
    mean, std = distilled.normalizer.mean, distilled.normalizer.std
    if not len(mean) == len(std) == images.shape[1]:
        raise ArtefactError(f"the normalizer does not fit {images.shape[1]} channels")
    if not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise ArtefactError(f"the normalizer has mean {mean} and std {std}; expected std above 0")
    zca = distilled.normalizer.zca
    if zca is not None and len(zca.mean) != images[0].numel():
        raise ArtefactError(f"the whitening is of {len(zca.mean)} values, not of {shapes}")
    for name, tensor in (("images", images), ("targets", targets)):
        if not bool(tensor.isfinite().all()):
            raise NotFiniteError(f"the distilled {name} have values that are not finite")


def _check_unchanged(distilled: DistilledSet, stored: Stored) -> None:
    """Refuse to save a set whose encoded form is that of others, so that no change is lost."""
    images = stored.decoded_images(distilled.channels, distilled.image_size)
    same = torch.equal(images, distilled.images.detach().cpu())
    if not same or not torch.equal(stored.decoded_targets(), distilled.targets.detach().cpu()):
        raise ArtefactError(
            "images or targets were changed after they were encoded; make the set with stored=None"
        )


def _check_provenance(distilled: DistilledSet) -> None:
    """Refuse metadata of a file that would fail later."""
    method, source = (distilled.provenance.get(key, {}) for key in ("method", "source"))
    for name in (method["name"], source.get("name", "")):
        if not isinstance(name, str):
            raise ArtefactError(f"its provenance has the name {name!r}; expected text")
    if distilled.target_kind != "hard-label":
        return
    classes, labels = distilled.provenance["num_classes"], distilled.targets
    low, high = int(labels.min()), int(labels.max())
    if not isinstance(classes, int) or low < 0 or high >= classes:
        raise ArtefactError(f"labels run from {low} to {high}, but there are {classes!r} classes")
