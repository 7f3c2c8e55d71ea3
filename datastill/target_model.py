"""The target model g: a frozen network whose outputs are the targets (KRR-ST, section 3)."""

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datastill.core.errors import ArtefactError, ConfigError
from datastill.core.machine import Machine
from datastill.core.rng import seeded
from datastill.core.tensor_file import digest, read_checked, write_checked
from datastill.images import ImageSet, Normalizer
from datastill.networks.architecture import Architecture, Network, network_spec, rebuild
from datastill.networks.timm import Timm
from datastill.ops.fusion import fuse_conv_bn

FORMAT = "datastill.target-model"
FORMAT_VERSION = 1
FILE_NAME = "target.safetensors"


@dataclass(frozen=True, eq=False)
class TargetModel:
    """A frozen network, the normalization of its input, and an optional scaling of its outputs.

    Args:
        module: Any `nn.Module` that maps normalized pixels (B, C, H, W) to (B, D). It is put into
            evaluation mode and frozen.
        normalizer: Normalization of pixels that the module expects.
        image_size: Pixels on a side.
        offset: Subtracted from the outputs, (D,) or (1,).
        scale: The outputs are divided by it afterwards, (D,) or (1,), positive.
        architecture: The module's, if it is a network of datastill; needed for saving.
        provenance: Source, objective, seed and so on, as JSON values.
        machine: Device and precision.

    Example:
        >>> import datastill as ds
        >>> images = ds.source("digits").load("test", image_size=16).limit(6, seed=0)
        >>> module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16 * 16, 3))
        >>> target = ds.TargetModel(module, images.normalizer, images.image_size)
        >>> target.represent_images(images).shape
        torch.Size([6, 3])
    """

    module: nn.Module
    normalizer: Normalizer
    image_size: int
    offset: Tensor = field(default_factory=lambda: torch.zeros(1))
    scale: Tensor = field(default_factory=lambda: torch.ones(1))
    architecture: Architecture | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    machine: Machine = field(default_factory=Machine)

    def __post_init__(self) -> None:
        self.module.eval().requires_grad_(False)
        self.machine.to_device(self.module)

    @torch.no_grad()
    def represent(self, normalized: Tensor) -> Tensor:  # (B, C, H, W) -> (B, D)
        """Return g(x) of normalized pixels: (module(x) - offset) / scale."""
        return self._scaled(self.machine.forward_in_chunks(self._fused, normalized))

    def represent_images(self, images: ImageSet, *, batch: int = 512) -> Tensor:  # (N, D)
        """Return g of all images, computed in batches without augmentation, on the device.

        Args:
            images: N images of `image_size`; the model's own normalizer is used.
            batch: Images that are run at once.

        Raises:
            ConfigError: The images have another size or other channels than the model expects.
        """
        self.check_images(images)
        normalizer, machine = self.normalizer, self.machine
        outputs = images.predict(self._fused, machine, normalizer=normalizer, batch=batch)
        return self._scaled(outputs)

    def standardized(self, images: ImageSet) -> "TargetModel":
        """Return the model with each output scaled to mean 0 and deviation 1 on `images`."""
        plain = replace(self, offset=torch.zeros(1), scale=torch.ones(1))
        g = plain.represent_images(images).double()
        offset, scale = g.mean(0), g.std(0).clamp_min(1e-6)
        return replace(self, offset=offset.float().cpu(), scale=scale.float().cpu())

    def check_images(self, images: ImageSet) -> None:
        """Check the size and channels of images.

        Raises:
            ConfigError: They are not those that the target model expects.
        """
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
        return self.machine.to_device(self.offset), self.machine.to_device(self.scale)

    @cached_property
    def dim(self) -> int:
        """D, the number of outputs."""
        shape = (2, len(self.normalizer.mean), self.image_size, self.image_size)
        return int(self.represent(torch.zeros(shape, device=self.machine.device)).shape[1])

    @cached_property
    def _fused(self) -> nn.Module:
        """The module that is evaluated: batch norm is fused where it is a network of datastill."""
        return fuse_conv_bn(self.module) if isinstance(self.module, Network) else self.module

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over weights, output scaling and normalization."""
        return digest(self._tensors(), {"normalizer": repr(self.normalizer)})

    def describe(self) -> dict[str, Any]:
        """Return the properties of this target model as plain values, for printing."""
        return {
            "outputs": self.dim,
            "image_size": self.image_size,
            "normalizer": self.normalizer.statistics,
            "fingerprint": self.fingerprint,
            **self.provenance,
        }

    def save(self, folder: Path | str) -> Path:
        """Write `target.safetensors` into a folder, atomically, and return its path.

        Raises:
            ConfigError: The module has no architecture from which it could be rebuilt.
        """
        path = Path(folder) / FILE_NAME
        write_checked(path, self._tensors(), self._header(self.require_network()[1]))
        return path

    def require_network(self) -> tuple[Architecture, Network]:
        """Return the architecture and the module as a network of datastill.

        Raises:
            ConfigError: The module is not a network of datastill.
        """
        if self.architecture is None or not isinstance(self.module, Network):
            raise ConfigError(
                "only a target model with an architecture of datastill.networks can be saved or"
                " transferred; keep your own module in Python and pass it to datastill.distill"
            )
        return self.architecture, self.module

    @staticmethod
    def load(folder: Path | str, machine: Machine | None = None) -> "TargetModel":
        """Load a target model from its folder (or file) and check its SHA-256.

        Raises:
            ArtefactError: The file is missing, damaged, of another kind, or of a newer version.
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
        weights: Path | str = "public",
        enlarge_to: int | None = None,
        machine: Machine | None = None,
    ) -> "TargetModel":
        """Load a trained network of timm with the normalization that timm gives it.

        Args:
            model: Name in timm, such as "resnet18".
            image_size: Pixels on a side; may differ from the size that the weights were trained at.
            channels: Channels of the images.
            weights: "public", which timm downloads at their first use; a .safetensors file with
                timm's names, whose classifier is left out; or "random", the same in every call.
            enlarge_to: Pixels to which images are enlarged first. Default: they are not.
            machine: Device and precision. Default: the CPU in float32.

        Raises:
            ConfigError: timm cannot be imported, has no such model, cannot get its weights, or the
                model does not take such images; or the file has other tensors than the model.
            ArtefactError: The file is missing or damaged.

        Example:
            >>> file = "lite0.safetensors"
            >>> target = TargetModel.from_timm(  # doctest: +SKIP
            ...     "tf_efficientnet_lite0", image_size=32, weights=file, enlarge_to=96
            ... )
        """
        architecture = Timm(model, enlarge_to)
        with seeded(0, "timm"):
            network = architecture(image_size=image_size, channels=channels, outputs=None)
            trained = architecture.weights(image_size, channels, weights)
        network.body.load_state_dict(trained.tensors)
        return TargetModel(
            network,
            Normalizer(trained.mean, trained.std),
            image_size,
            architecture=architecture,
            provenance={"timm": trained.origin},
            machine=machine or Machine(),
        )

    def _tensors(self) -> dict[str, Tensor]:
        weights = {f"module.{k}": v for k, v in self.module.state_dict().items()}
        tensors = {**weights, "offset": self.offset, "scale": self.scale}
        return {k: v.detach().cpu().contiguous() for k, v in tensors.items()}

    def _header(self, network: Network) -> dict[str, str]:
        spec = {
            **network_spec(network),
            "image_size": self.image_size,
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
    prefix = "module."
    weights = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    network = rebuild(spec, weights)
    return TargetModel(
        network,
        Normalizer.from_statistics(spec["normalizer"]),
        image_size=spec["image_size"],
        offset=tensors["offset"],
        scale=tensors["scale"],
        architecture=network.architecture,
        provenance=spec["provenance"],
        machine=machine,
    )
