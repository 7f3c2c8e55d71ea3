"""The target model g: a frozen network whose representations are regressed (KRR-ST, section 3)."""

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datastill.ground.errors import ArtefactError, ConfigError
from datastill.ground.lookup import find, public_name
from datastill.ground.machine import Machine
from datastill.ground.options import from_json, to_json
from datastill.ground.rng import seeded
from datastill.ground.tensor_file import digest, read_checked, write_checked
from datastill.images import ImageSet, Normalizer
from datastill.networks._base import AbstractArchitecture, Network
from datastill.networks._folding import folded
from datastill.networks.timm import Timm

FORMAT = "datastill.target-model"
FORMAT_VERSION = 1
FILE_NAME = "target.safetensors"


@dataclass(frozen=True, eq=False)
class TargetModel:
    """A frozen network, the normalisation it expects, and an optional scaling of its outputs.

    Any `nn.Module` that maps normalized pixels (B, C, H, W) to (B, D) will do; one that is to be
    saved needs its `architecture`. The module is put into evaluation mode and frozen.
    """

    module: nn.Module
    normalizer: Normalizer  # of the pixels that the module expects
    image_size: int  # pixels on a side
    offset: Tensor = field(default_factory=lambda: torch.zeros(1))  # (D,) or (1,)
    scale: Tensor = field(default_factory=lambda: torch.ones(1))  # (D,) or (1,), > 0
    architecture: AbstractArchitecture | None = None
    provenance: dict[str, Any] = field(default_factory=dict)  # JSON: source, objective, seed, ...
    machine: Machine = field(default_factory=Machine)

    def __post_init__(self) -> None:
        self.module.eval().requires_grad_(False)
        self.machine.place(self.module)

    @torch.no_grad()
    def represent(self, normalized: Tensor) -> Tensor:  # (B, C, H, W) -> (B, D)
        """g(x) of normalized pixels: (module(x) - offset) / scale."""
        return self._scaled(self.machine.run_each(self._folded, normalized))

    def represent_images(self, images: ImageSet, *, batch: int = 512) -> Tensor:  # (N, D)
        """g of all images, without augmentation, in batches; the result stays on the device.

        Raises:
            ConfigError: the images are not of the size or channels that the target model expects.
        """
        self.check_images(images)
        normalizer, machine = self.normalizer, self.machine
        outputs = images.outputs(self._folded, machine, normalizer=normalizer, batch=batch)
        return self._scaled(outputs)

    def standardized(self, images: ImageSet) -> "TargetModel":
        """The same target model with each output scaled to mean 0 and deviation 1 on `images`."""
        plain = replace(self, offset=torch.zeros(1), scale=torch.ones(1))
        g = plain.represent_images(images).double()
        offset, scale = g.mean(0), g.std(0).clamp_min(1e-6)
        return replace(self, offset=offset.float().cpu(), scale=scale.float().cpu())

    def check_images(self, images: ImageSet) -> None:
        """Refuse images of another size or other channels than the target model expects."""
        if images.image_size != self.image_size:
            raise ConfigError(
                f"the target model was made for images of {self.image_size} pixels, {images.name}"
                f" has {images.image_size}; pass --image-size {self.image_size} or train another"
                " target model"
            )
        if images.channels != len(self.normalizer.mean):
            raise ConfigError(
                f"the target model was made for {len(self.normalizer.mean)} channels,"
                f" {images.name} has {images.channels}; train a target model on this source"
            )

    def _scaled(self, outputs: Tensor) -> Tensor:
        offset, scale = self._scaling
        return (outputs - offset) / scale

    @cached_property
    def _scaling(self) -> tuple[Tensor, Tensor]:
        """Offset and scale on the device."""
        return self.machine.here(self.offset), self.machine.here(self.scale)

    @cached_property
    def dim(self) -> int:
        """D, the number of outputs."""
        shape = (2, len(self.normalizer.mean), self.image_size, self.image_size)
        return int(self.represent(torch.zeros(shape, device=self.machine.device)).shape[1])

    @cached_property
    def _folded(self) -> nn.Module:
        """What computes; a foreign module is left as it is."""
        return folded(self.module) if isinstance(self.module, Network) else self.module

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over weights, output scaling and normalisation."""
        return digest(self._tensors(), {"normalizer": repr(self.normalizer)})

    def describe(self) -> dict[str, Any]:
        """What this target model is, as plain values for people and for YAML."""
        return {
            "outputs": self.dim,
            "image_size": self.image_size,
            "normalizer": self.normalizer.statistics,
            "fingerprint": self.fingerprint,
            **self.provenance,
        }

    def save(self, folder: Path | str) -> Path:
        """Write `target.safetensors` into a folder; it appears whole or not at all.

        Raises:
            ConfigError: the module has no architecture from which it could be rebuilt.
        """
        path = Path(folder) / FILE_NAME
        write_checked(path, self._tensors(), self._header(*self.rebuildable()))
        return path

    def rebuildable(self) -> tuple[AbstractArchitecture, Network]:
        """Architecture and network, where the module is one of datastill.networks.

        Raises:
            ConfigError: it is another module.
        """
        if self.architecture is None or not isinstance(self.module, Network):
            raise ConfigError(
                "only a target model with an architecture of datastill.networks can be saved or"
                " transferred; keep your own module in Python and pass it to datastill.distill"
            )
        return self.architecture, self.module

    @staticmethod
    def load(folder: Path | str, machine: Machine | None = None) -> "TargetModel":
        """Read a target model from its folder (or file) and check its SHA-256.

        Raises:
            ArtefactError: no such file, damaged, foreign, or from a newer format version.
        """
        path = Path(folder)
        path = path / FILE_NAME if path.is_dir() or not path.suffix else path
        tensors, metadata = read_checked(path, FORMAT, FORMAT_VERSION)
        try:
            return _rebuild(tensors, json.loads(metadata["spec"]), machine or Machine())
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ArtefactError(f"{path} lacks a part of a target model: {error}") from error

    @staticmethod
    def from_timm(
        model: str,
        *,
        image_size: int,
        channels: int = 3,
        pretrained: bool = True,
        machine: Machine | None = None,
    ) -> "TargetModel":
        """A network of timm with its public weights, and the normalisation that these expect.

        It sees images at their own size, which may be far from the size that it was trained at.
        `pretrained` false takes random weights, always the same.

        Raises:
            ConfigError: timm cannot be imported, has no such model, cannot get its weights, or the
                model takes no such images.
        """
        architecture = Timm(model)
        with seeded(0, "timm"):
            network = architecture(image_size=image_size, channels=channels, outputs=None)
            weights = architecture.weights(image_size, channels, pretrained=pretrained)
        network.body.load_state_dict(weights.tensors)
        return TargetModel(
            network,
            Normalizer(weights.mean, weights.std),
            image_size,
            architecture=architecture,
            provenance={"timm": weights.origin},
            machine=machine or Machine(),
        )

    def _tensors(self) -> dict[str, Tensor]:
        weights = {f"module.{k}": v for k, v in self.module.state_dict().items()}
        tensors = {**weights, "offset": self.offset, "scale": self.scale}
        return {k: v.detach().cpu().contiguous() for k, v in tensors.items()}

    def _header(self, architecture: AbstractArchitecture, network: Network) -> dict[str, str]:
        spec = {
            "architecture": {"name": public_name(architecture), **to_json(architecture)},
            "image_size": self.image_size,
            "channels": len(self.normalizer.mean),
            "outputs": None if isinstance(network.head, nn.Identity) else network.outputs,
            "normalizer": self.normalizer.statistics,
            "provenance": self.provenance,
        }
        return {
            "format": FORMAT,
            "format_version": str(FORMAT_VERSION),
            "spec": json.dumps(spec, sort_keys=True),
            "fingerprint": self.fingerprint,
        }


def _rebuild(tensors: dict[str, Tensor], spec: dict[str, Any], machine: Machine) -> TargetModel:
    fields = dict(spec["architecture"])
    architecture = from_json(find("datastill.networks", fields.pop("name")), fields)
    network = architecture(
        image_size=spec["image_size"], channels=spec["channels"], outputs=spec["outputs"]
    )
    network.load_state_dict(
        {k.removeprefix("module."): v for k, v in tensors.items() if k.startswith("module.")}
    )
    return TargetModel(
        network,
        Normalizer.from_statistics(spec["normalizer"]),
        image_size=spec["image_size"],
        offset=tensors["offset"],
        scale=tensors["scale"],
        architecture=architecture,
        provenance=spec["provenance"],
        machine=machine,
    )
