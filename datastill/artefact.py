"""The artefact: distilled images and targets in one self-describing safetensors file.

The format is described to the field in docs/artefact.md. It opens with safetensors alone;
`DistilledSet.load` also checks the SHA-256, so that a flipped bit never passes silently.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from datastill.ground.atomic import whole_file
from datastill.ground.errors import ArtefactError, NotFiniteError
from datastill.ground.tensor_file import digest, read_checked, write_checked
from datastill.images import Normalizer
from datastill.maths.zca import Zca

FORMAT = "datastill.distilled"
FORMAT_VERSION = 1

TargetKind = Literal["hard-label", "soft-label", "representation"]
PixelSpace = Literal["unit", "normalized", "raw"]


@dataclass(frozen=True, eq=False)
class DistilledSet(Dataset[tuple[Tensor, Tensor]]):
    """M distilled images with their targets, and everything needed to use them.

    `pixel_space` says how the images are fed to a network:
    "unit" pixels go through `normalizer` first; "normalized" pixels are fed as they are;
    "raw" are unit pixels fed as they are (the released code of KRR-ST: docs/fidelity.md#pixels).

    Raises:
        ArtefactError: shapes, types or kinds do not fit together.
        NotFiniteError: a value is NaN or infinite.
    """

    images: Tensor  # (M, C, H, W) float32
    targets: Tensor  # (M, D) float32, or (M,) int64 for hard-label
    target_kind: TargetKind
    pixel_space: PixelSpace
    normalizer: Normalizer
    provenance: dict[str, Any]  # JSON: method, options, source, target model, seed, versions

    def __post_init__(self) -> None:
        _check(self)

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """(network input (C, H, W), target): ready for any PyTorch data loader."""
        return self.network_input()[index], self.targets[index]

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
        """How many outputs a network needs to learn the targets: D, or the class count K."""
        if self.target_kind == "hard-label":
            return int(self.provenance["num_classes"])
        return int(self.targets.shape[1])

    @property
    def num_bytes(self) -> int:
        """What the images and targets take as they are stored, without the metadata."""
        return self.images.nbytes + self.targets.nbytes

    @property
    def method(self) -> str:
        """Public name of the method that made this set."""
        return str(self.provenance["method"]["name"])

    def network_input(self) -> Tensor:  # (M, C, H, W)
        """The images as a network wants them."""
        return self.normalizer(self.images) if self.pixel_space == "unit" else self.images

    def unit_pixels(self) -> Tensor:  # (M, C, H, W)
        """The images as people want them: unit pixels, clipped to [0, 1]."""
        normalized = self.pixel_space == "normalized"
        unit = self.normalizer.inverse(self.images) if normalized else self.images
        return unit.clamp(0, 1)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of images, targets and metadata: the identity of this artefact."""
        return digest(self._tensors(), self._header())

    def to(self, device: torch.device) -> "DistilledSet":
        """The same set with its tensors on another device."""
        return replace(self, images=self.images.to(device), targets=self.targets.to(device))

    @property
    def whitening_bytes(self) -> int:
        """What the whitening takes that networks need for any other image; 0 without one."""
        zca = self.normalizer.zca
        return 0 if zca is None else zca.mean.nbytes + zca.matrix.nbytes

    def describe(self) -> dict[str, Any]:
        """What this set is, as plain values for people and for YAML."""
        return {
            "images": list(self.images.shape),
            "targets": list(self.targets.shape),
            "target_kind": self.target_kind,
            "pixel_space": self.pixel_space,
            "normalizer": self.normalizer.statistics,
            "whitened": self.normalizer.zca is not None,
            "fingerprint": self.fingerprint,
            **{k: v for k, v in self.provenance.items() if k != "classes"},
        }

    def save(self, path: Path | str) -> None:
        """Write the artefact, whole or not at all, and `preview.png` beside it."""
        path = Path(path)
        write_checked(path, self._tensors(), self._header())
        if path.stem == "distilled":
            with whole_file(path.with_name("preview.png")) as part:
                picture_grid(self.unit_pixels()).save(part, format="png")

    @staticmethod
    def load(path: Path | str) -> "DistilledSet":
        """Read and check an artefact (a file, or a run folder with a `distilled.safetensors`).

        Raises:
            ArtefactError: no such file, damaged, foreign, or from a newer format version.
        """
        path = Path(path)
        if path.is_dir():
            path = path / "distilled.safetensors"
        tensors, metadata = read_checked(path, FORMAT, FORMAT_VERSION)
        try:
            return DistilledSet(
                tensors["images"],
                tensors["targets"],
                target_kind=metadata["target_kind"],  # type: ignore[arg-type]  # checked inside
                pixel_space=metadata["pixel_space"],  # type: ignore[arg-type]
                normalizer=_normalizer(json.loads(metadata["normalizer"]), tensors),
                provenance=json.loads(metadata["provenance"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtefactError(f"{path} lacks a part of a distilled set: {error!r}") from error

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {"images": self.images, "targets": self.targets}
        if (zca := self.normalizer.zca) is not None:
            tensors |= {"zca_mean": zca.mean, "zca_matrix": zca.matrix}
        return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    def _header(self) -> dict[str, str]:
        return {
            "format": FORMAT,
            "format_version": str(FORMAT_VERSION),
            "target_kind": self.target_kind,
            "pixel_space": self.pixel_space,
            "image_size": str(self.image_size),
            "normalizer": json.dumps(self.normalizer.statistics),
            "provenance": json.dumps(self.provenance, sort_keys=True),
        }


def picture_grid(unit_pixels: Tensor, *, columns: int = 0, scale: int = 0) -> Image.Image:
    """Draw images (M, C, H, W), clipped to [0, 1], as one picture with a thin white gap.

    `columns` 0 makes it about square, at most 20 wide; `scale` 0 enlarges small images.
    """
    count, channels, size = unit_pixels.shape[:3]
    columns = columns or min(20, int(np.ceil(np.sqrt(count))))
    rows = -(-count // columns)
    scale = scale or max(1, 48 // size)
    tiles = (unit_pixels.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    tiles = tiles.repeat(scale, 1).repeat(scale, 2).repeat(3 if channels == 1 else 1, 3)
    step = size * scale + 2
    canvas = np.full((rows * step + 2, columns * step + 2, 3), 255, np.uint8)
    for k, tile in enumerate(tiles):
        top, left = 2 + k // columns * step, 2 + k % columns * step
        canvas[top : top + size * scale, left : left + size * scale] = tile[..., :3]
    return Image.fromarray(canvas)


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
    if len(distilled.normalizer.mean) != images.shape[1]:
        raise ArtefactError(f"the normalizer does not fit {images.shape[1]} channels")
    zca = distilled.normalizer.zca
    if zca is not None and len(zca.mean) != images[0].numel():
        raise ArtefactError(f"the whitening is of {len(zca.mean)} values, not of {shapes}")
    for name, tensor in (("images", images), ("targets", targets)):
        if not bool(tensor.isfinite().all()):
            raise NotFiniteError(f"the distilled {name} have values that are not finite")
