"""A pre-trained network in a file: weights, normalization of its input, and how it was made."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datastill.core.errors import ArtefactError, ConfigError
from datastill.core.tensor_file import digest, read_checked, write_checked
from datastill.data.decode import square_pixels
from datastill.images import Normalizer
from datastill.networks.architecture import Network, network_spec, rebuild
from datastill.ops.zca import Zca

FORMAT = "datastill.network"
FORMAT_VERSION = 1
FILE_NAME = "network-{}.safetensors"  # of a seed
_GREY, _RGB = 1, 3  # channels


@dataclass(frozen=True)
class ImageTransform:
    """Turn images of any common form into the normalized input of a network.

    Args:
        normalizer: Of the images that the network was pre-trained on.
        image_size: Pixels on a side (S).
        channels: Channels that the network takes (C).

    Example:
        >>> transform = ImageTransform(Normalizer((0.5,) * 3, (0.25,) * 3), 32, 3)
        >>> transform(Image.new("RGB", (640, 480))).shape  # cropped and resized
        torch.Size([3, 32, 32])
        >>> transform(np.zeros((5, 32, 32, 3), np.uint8)).shape  # a batch
        torch.Size([5, 3, 32, 32])
    """

    normalizer: Normalizer
    image_size: int
    channels: int

    def __call__(self, image: Image.Image | np.ndarray[Any, Any] | Tensor) -> Tensor:
        """Normalize one image or a batch.

        Args:
            image: A PIL image of any size, which is cropped to its central square and resized as
                image files are; or uint8 pixels of the network's size: an array (H, W, C), (H, W)
                or (N, H, W, C), or a tensor (C, H, W) or (N, C, H, W).

        Returns:
            float32 (C, S, S) or (N, C, S, S).

        Raises:
            ConfigError: The pixels are not uint8, or have another size or other channels.
        """
        if isinstance(image, Image.Image):
            return self.normalizer(self._pixels(image).float() / 255)
        shape, dtype = tuple(image.shape), str(image.dtype).removeprefix("torch.")
        if isinstance(image, np.ndarray):
            image = torch.from_numpy(image if image.ndim > 2 else image[..., None])
            image = image.movedim(-1, -3)
        expected = (self.channels, self.image_size, self.image_size)
        if dtype != "uint8" or image.dim() not in (3, 4) or tuple(image.shape[-3:]) != expected:
            raise ConfigError(
                f"the network takes uint8 images of {self.channels} channels and {self.image_size}"
                f" x {self.image_size} pixels, got {dtype} of shape {shape}; resize them first, or"
                " give PIL images, which are cropped and resized"
            )
        batch = image if image.dim() == 4 else image[None]
        return self.normalizer(batch.float() / 255).reshape(image.shape)

    def _pixels(self, image: Image.Image) -> Tensor:  # uint8 (C, S, S)
        if self.channels not in (_GREY, _RGB):
            raise ConfigError(
                f"the network takes images of {self.channels} channels, a PIL image has one or"
                " three; give arrays"
            )
        square = square_pixels(image, self.image_size)
        if self.channels == _GREY:
            grey = Image.fromarray(square.transpose(1, 2, 0)).convert("L")
            square = np.array(grey)[None]
        return torch.from_numpy(square)


@dataclass(frozen=True, eq=False)
class PretrainedNetwork:
    """A network of datastill with the normalization of its input; `save` and `load` it as a file.

    Args:
        network: With the weights after pre-training; it is put into evaluation mode.
        normalizer: Of the images that it was pre-trained on.
        provenance: The distilled set, the settings of pre-training, seed, versions; JSON values.

    Example:
        >>> import datastill as ds, tempfile
        >>> network = ds.ConvNet(widths=(8,))(image_size=16, channels=1, outputs=10)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = f"{folder}/network.safetensors"
        ...     ds.PretrainedNetwork(network, Normalizer((0.5,), (0.2,))).save(path)
        ...     loaded = ds.PretrainedNetwork.load(path)
        >>> loaded.network.outputs
        10
    """

    network: Network
    normalizer: Normalizer
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.network.eval()

    @property
    def image_size(self) -> int:
        """Pixels on a side of the images that the network takes."""
        return self.network.image_size

    @property
    def outputs(self) -> int:
        """Number of values that the network returns per image."""
        return self.network.outputs

    @property
    def transform(self) -> ImageTransform:
        """Turns images into the network's input."""
        return ImageTransform(self.normalizer, self.network.image_size, self.network.channels)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over weights, normalization and provenance."""
        return digest(self._tensors(), self._header())

    def describe(self) -> dict[str, Any]:
        """Return the properties of this network as plain values, for printing."""
        return {
            **network_spec(self.network),
            "normalizer": self.normalizer.statistics,
            "fingerprint": self.fingerprint,
            **self.provenance,
        }

    def save(self, path: Path | str) -> None:
        """Write the network to a file, atomically.

        Raises:
            DataError: It cannot be written.
        """
        write_checked(Path(path), self._tensors(), self._header())

    @staticmethod
    def load(path: Path | str) -> "PretrainedNetwork":
        """Read a network and check its SHA-256.

        Args:
            path: A file, or a folder with one network in it.

        Returns:
            The network on the CPU, in evaluation mode.

        Raises:
            ArtefactError: There is no such file, it is damaged, of another kind or of a newer
                version, or the folder has no network or several.
        """
        file = _single_file(Path(path))
        tensors, metadata = read_checked(file, FORMAT, FORMAT_VERSION)
        try:
            spec = json.loads(metadata["spec"])
            whitening = {
                name: tensors.pop(name) for name in ("zca_mean", "zca_matrix") if name in tensors
            }
            zca = Zca(*whitening.values()) if whitening else None
            return PretrainedNetwork(
                rebuild(spec, tensors),
                Normalizer.from_statistics(spec["normalizer"], zca),
                spec["provenance"],
            )
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ArtefactError(f"{file} lacks a part of a network: {error}") from error

    def _tensors(self) -> dict[str, Tensor]:
        tensors = dict(self.network.state_dict())
        if (zca := self.normalizer.zca) is not None:
            tensors |= {"zca_mean": zca.mean, "zca_matrix": zca.matrix}
        return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    def _header(self) -> dict[str, str]:
        spec = {
            **network_spec(self.network),
            "normalizer": self.normalizer.statistics,
            "provenance": self.provenance,
        }
        return {
            "format": FORMAT,
            "format_version": str(FORMAT_VERSION),
            "spec": json.dumps(spec, sort_keys=True),
        }


def network_files(folder: Path) -> dict[int, Path]:
    """Return the files of the networks in a folder, by seed."""
    prefix, suffix = FILE_NAME.split("{}")
    seeds = (p.name[len(prefix) : -len(suffix)] for p in folder.glob(FILE_NAME.format("*")))
    return {
        seed: folder / FILE_NAME.format(seed)
        for seed in sorted(int(s) for s in seeds if s.isdigit())
    }


def load_network(path: Path | str) -> tuple[Network, ImageTransform]:
    """Load a pre-trained network and the transform of its input.

    Args:
        path: A file, or a folder with one network, that `datastill pretrain` wrote.

    Returns:
        The network on the CPU in evaluation mode, an `nn.Module` from (B, C, S, S) to (B, outputs)
        whose `embed` gives the features below its linear `head`; and the transform, which turns a
        PIL image or uint8 pixels into its input.

    Raises:
        ArtefactError: There is no such file, it is damaged, of another kind or of a newer version,
            or the folder has no network or several.

    Example:
        >>> import datastill as ds, tempfile
        >>> network = ds.ConvNet(widths=(8,))(image_size=16, channels=3, outputs=10)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = f"{folder}/network-0.safetensors"
        ...     ds.PretrainedNetwork(network, Normalizer((0.5,) * 3, (0.2,) * 3)).save(path)
        ...     network, transform = ds.load_network(folder)
        >>> network(transform(Image.new("RGB", (40, 30)))[None]).shape
        torch.Size([1, 10])
    """
    loaded = PretrainedNetwork.load(path)
    return loaded.network, loaded.transform


def _single_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = list(network_files(path).values())
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "no network-SEED.safetensors"
        raise ArtefactError(f"{path} has {names}; give one file")
    return files[0]
