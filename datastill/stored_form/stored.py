"""The stored form of a distilled set: images in one mosaic by a standard codec, targets as codes.

`DistilledSet.compress` and `load` use it; docs/artefact.md describes the file.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from datastill.core.errors import ArtefactError, DataWarning
from datastill.core.options import Json
from datastill.core.tensor_file import digest, read_checked, write_checked
from datastill.stored_form.mosaic import (
    ENLARGE,
    check_mosaic,
    checksum,
    decode_mosaic,
    decoder,
    resize,
)

TargetForm = Literal["int8", "float16", "float32"]
BASIS_FORMAT, BASIS_VERSION = "datastill.target-basis", 1


@dataclass(frozen=True, eq=False)
class TargetBasis:
    """Where the coordinates of targets come from: (g - mean) @ basis of a target model's output g.

    Args:
        mean: (dim,) float32.
        basis: (dim, D) float32, columns at right angles: usually principal axes.

    Example:
        >>> TargetBasis(torch.zeros(3), torch.eye(3)[:, :2]).project(torch.tensor([[1.0, 2, 3]]))
        tensor([[1., 2.]])
    """

    mean: Tensor
    basis: Tensor

    def __post_init__(self) -> None:
        if self.basis.dim() != 2 or self.mean.shape != self.basis.shape[:1]:
            shapes = f"mean {tuple(self.mean.shape)}, basis {tuple(self.basis.shape)}"
            raise ArtefactError(f"a basis of targets needs (dim,) and (dim, D); got {shapes}")

    def project(self, outputs: Tensor) -> Tensor:  # (N, dim) -> (N, D)
        """Return the coordinates of a target model's outputs."""
        return (outputs - self.mean.to(outputs)) @ self.basis.to(outputs)

    def outputs(self, coordinates: Tensor) -> Tensor:  # (N, D) -> (N, dim)
        """Return the outputs nearest to the mean that have these coordinates."""
        axes = (self.basis / self.basis.square().sum(0)).to(coordinates)
        return coordinates @ axes.T + self.mean.to(coordinates)

    def first(self, components: int) -> "TargetBasis":
        """Return the basis of the first coordinates."""
        return TargetBasis(self.mean, self.basis[:, :components])

    @property
    def fingerprint(self) -> str:
        """The first 16 digits of the SHA-256 of both tensors."""
        return digest({"mean": self.mean, "basis": self.basis}, {})[:16]

    @staticmethod
    def principal(targets: Tensor, components: int) -> "TargetBasis":
        """Fit the principal axes of targets (M, dim), in the order of their variance.

        All have one scale, such that the first `components` coordinates have the mean variance of
        the targets: with larger ones, usual learning rates of networks are too high.
        """
        exact = targets.double()
        mean = exact.mean(0)
        _, sizes, axes = torch.linalg.svd(exact - mean, full_matrices=False)
        axes, variances = axes[: max(1, len(exact) - 1)], sizes.square()
        first = variances[: min(components, len(axes))]
        scale = (variances.sum() / targets.shape[1] / first.mean()).sqrt() if first.sum() else 1.0
        return TargetBasis(mean.float(), (axes.T * scale).float().contiguous())

    @staticmethod
    def path(file: Path) -> Path:
        """Return the file of the basis that lies beside the file of a set."""
        return file.with_name(f"{file.stem}.basis.safetensors")

    def save(self, file: Path) -> None:
        """Write the basis beside the file of a set."""
        header = {"format": BASIS_FORMAT, "format_version": str(BASIS_VERSION)}
        write_checked(self.path(file), {"mean": self.mean, "basis": self.basis}, header)

    @staticmethod
    def load(file: Path, fingerprint: str) -> "TargetBasis | None":
        """Read the basis beside the file of a set; None where there is none.

        Raises:
            ArtefactError: It is damaged, or of another set.
        """
        path = TargetBasis.path(file)
        if not path.is_file():
            return None
        tensors, _ = read_checked(path, BASIS_FORMAT, BASIS_VERSION)
        if not {"mean", "basis"} <= tensors.keys():
            raise ArtefactError(f"{path} lacks a mean or a basis; fetch it again, or remove it")
        basis = TargetBasis(tensors["mean"], tensors["basis"])
        if basis.fingerprint != fingerprint:
            raise ArtefactError(
                f"{path} is the basis of another set than {file.name}; fetch it again, or remove it"
            )
        return basis


@dataclass(frozen=True, eq=False)
class Stored:
    """The encoded images and targets of a set, as its file has them.

    Args:
        mosaic: uint8: a picture file (bytes,), or the pixels (M, C, S', S') where raw.
        targets: (M, D) int8 codes, float16 or float32; or class labels (M,).
        scale: (D,) float32: what a code of 1 means. Only with codes.
        form: Codec, size, checksum and the like: `provenance["stored"]`.
        basis: Of the targets' coordinates; it is kept in a file of its own.
    """

    mosaic: Tensor
    targets: Tensor
    scale: Tensor | None
    form: Json
    basis: TargetBasis | None = None

    @staticmethod
    def read(file: Path, tensors: dict[str, Tensor], form: Json) -> "Stored":
        """Take the tensors of a file, and the basis beside it where there is one."""
        basis = TargetBasis.load(file, form["basis"]) if "basis" in form else None
        return Stored(tensors["mosaic"], tensors["targets"], tensors.get("scale"), form, basis)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors of the file."""
        scale = {} if self.scale is None else {"scale": self.scale}
        return {"mosaic": self.mosaic, "targets": self.targets, **scale}

    def decoded_images(self, channels: int, image_size: int) -> Tensor:  # (M, C, S, S)
        """Decode the images, enlarge them to `image_size`, and return unit pixels.

        Warns where this decoder gives other pixels than the one that stored them.

        Raises:
            ArtefactError: The mosaic is damaged, too large, or not of M such images.
        """
        codec, size, count = self.form["codec"], self.form["size"], len(self.targets)
        check_mosaic(codec, count, channels, size, image_size)
        tiles = decode_mosaic(self.mosaic, codec, count, channels, size)
        if checksum(tiles) != self.form["pixels"]:
            warnings.warn(
                f"the images were stored with {self.form['decoder']} and are decoded by"
                f" {decoder(codec)}, which gives slightly other pixels",
                DataWarning,
                stacklevel=2,
            )
        return torch.from_numpy(resize(tiles, image_size, ENLARGE)).float() / 255

    def decoded_targets(self) -> Tensor:  # (M, D) float32, or (M,) int64
        """Return the targets that the codes stand for.

        Raises:
            ArtefactError: There are codes without their scale.
        """
        if self.targets.dim() == 1:
            return self.targets.long()
        if self.targets.dtype == torch.int8:
            if self.scale is None or self.scale.shape != self.targets.shape[1:]:
                raise ArtefactError(
                    "the targets are codes without their scale; fetch the file again"
                )
            return self.targets.float() * self.scale
        return self.targets.float()


def settings_text(form: Json) -> str:
    """Describe a stored form without what differs between sets of one budget.

    Example:
        >>> settings_text({"codec": "avif", "size": 32, "targets": "int8", "quality": 45})
        'avif, quality 45, 32 pixels, int8'
    """
    settings = [f"{form['budget']} bytes"] if "budget" in form else []
    if not settings:
        names = ("quality", "components")
        settings = [f"{name} {form[name]}" for name in names if name in form]
    return ", ".join([form["codec"], *settings, f"{form['size']} pixels", form["targets"]])
