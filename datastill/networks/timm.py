"""Networks of timm (PyTorch Image Models), written timm:NAME; they need the extra `timm`."""

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datastill.core.atomic import sha256
from datastill.core.errors import ConfigError
from datastill.core.options import option
from datastill.core.tensor_file import read_tensors
from datastill.networks.architecture import Architecture


@dataclass(frozen=True)
class TimmWeights:
    """The weights of a model, the normalization of pixels that they expect, and their source."""

    tensors: Mapping[str, Tensor]
    mean: tuple[float, ...]  # (C,), in unit pixels
    std: tuple[float, ...]  # (C,), in unit pixels
    origin: dict[str, Any]  # JSON: model, version of timm, address or file, licence


@dataclass(frozen=True)
class Timm(Architecture):
    """A network of timm without its classifier; the features are the classifier's input.

    As an architecture it starts from random weights, like all others. `TargetModel.from_timm`
    (`--target timm:NAME`) uses its public weights, or those of a file.

    Args:
        model: Name in timm, such as resnet18 or vit_tiny_patch16_224.augreg_in21k.
        enlarge_to: Pixels to which smaller images are enlarged first, bicubically. Networks that
            were trained on photographs see little in images of 32 pixels. Default: not enlarged.

    Example:
        >>> architecture = Timm("resnet10t")  # timm itself is imported when a network is made
        >>> architecture.build_body(32, channels=3)[1]  # doctest: +SKIP
        512
    """

    model: str = option(
        "resnet10t", "name in timm, such as resnet18 or vit_tiny_patch16_224.augreg_in21k"
    )
    enlarge_to: int | None = option(
        None, "pixels to which images are enlarged first; default: they are not", at_least=1
    )

    def min_size(self) -> int:
        """Return 1 after checking that timm has the model, whose limits show when it is built.

        Raises:
            ConfigError: timm cannot be imported, or has no such model.
        """
        timm = _timm()
        if ":" not in self.model and not timm.is_model(self.model):  # not hf-hub:, not local-dir:
            nearest = difflib.get_close_matches(self.model, timm.list_models(), n=1)
            hint = f", did you mean {nearest[0]!r}?" if nearest else ";"
            raise ConfigError(
                f"timm has no model {self.model!r}{hint} timm.list_models() has them all"
            )
        return 1

    def build_body(self, image_size: int, channels: int) -> tuple[nn.Module, int]:
        """Make the network with random weights; count its features by a forward pass.

        Raises:
            ConfigError: The model takes no images of this size, or they are larger than
                `enlarge_to`.
        """
        if self.enlarge_to is not None and self.enlarge_to < image_size:
            raise ConfigError(
                f"enlarge_to {self.enlarge_to} is less than the images' {image_size} pixels; raise"
                " it or leave it out"
            )
        body = self._enlarging(self._create(image_size, channels, pretrained=False)).eval()
        try:
            with torch.no_grad():
                features = body(torch.zeros(1, channels, image_size, image_size)).shape[1]
        except (AssertionError, RuntimeError, ValueError) as error:
            raise ConfigError(
                f"timm's {self.model} takes no images of {image_size} pixels: {error}"
            ) from error
        return body.train(), int(features)

    def weights(self, image_size: int, channels: int, source: Path | str) -> TimmWeights:
        """Get the public weights, which timm downloads at their first use, or others.

        For images without three channels, timm adds or repeats the public weights of the first
        layer, and mean and standard deviation are averages over the three.

        Args:
            image_size: Side of the images, in pixels.
            channels: Channels of the images (C).
            source: "public", "random" (from torch's global generator), or a .safetensors file.

        Raises:
            ConfigError: timm cannot be imported, has no such model, or cannot get its weights; or
                the file is no .safetensors file, or has other tensors than the model.
            ArtefactError: The file is missing or damaged.
        """
        self.min_size()
        network: Any = self._create(image_size, channels, pretrained=source == "public")
        config = network.pretrained_cfg
        origin = {
            "model": self.model,
            "version": _timm().__version__,
            "enlarge_to": self.enlarge_to,
        }
        if source in ("public", "random"):
            address = config.get("hf_hub_id") or config.get("url") or config.get("file") or ""
            origin["weights"] = address if source == "public" else "random"
            origin["licence"] = config.get("license") or ""
        else:
            origin |= self._load_file(network, Path(source))
        mean, std = config["mean"], config["std"]
        if len(mean) != channels:
            mean, std = ((sum(values) / len(values),) * channels for values in (mean, std))
        tensors = self._enlarging(network).state_dict()
        return TimmWeights(tensors, tuple(mean), tuple(std), origin)

    def _load_file(self, network: Any, path: Path) -> dict[str, str]:
        """Load the tensors of a file, except for its classifier; return where they came from."""
        if path.suffix != ".safetensors":
            raise ConfigError(
                f"{path} is not a .safetensors file; others are not read, since a pickle can run"
                " code. Convert it: safetensors.torch.save_file(torch.load(FILE,"
                " weights_only=True), 'weights.safetensors')"
            )
        metadata, tensors = read_tensors(path)
        classifier = network.pretrained_cfg.get("classifier") or ()
        classifiers = (classifier,) if isinstance(classifier, str) else classifier
        heads = tuple(f"{name}." for name in classifiers)
        tensors = {k: v for k, v in tensors.items() if not k.startswith(heads)}
        shapes, expected = (
            {k: list(v.shape) for k, v in x.items()} for x in (tensors, network.state_dict())
        )
        if shapes != expected:
            pairs = ((expected, shapes), (shapes, expected))
            first, other = (
                next((f"{k} {v}" for k, v in a.items() if b.get(k) != v), "none") for a, b in pairs
            )
            raise ConfigError(
                f"{path} does not fit timm's {self.model}: of the model's {len(expected)} tensors"
                f" the first that differs is {first}, of the file's {len(shapes)} it is {other};"
                " docs/target-models.md shows how to rename tensors"
            )
        network.load_state_dict(tensors)
        licence = metadata.get("licence", "unspecified (your own file)")
        return {"weights": path.name, "sha256": sha256(path), "licence": licence}

    def _enlarging(self, network: nn.Module) -> nn.Module:
        """Return the network, or one that enlarges images for it first."""
        return network if self.enlarge_to is None else _Enlarged(network, self.enlarge_to)

    def _create(self, image_size: int, channels: int, *, pretrained: bool) -> nn.Module:
        options = {"pretrained": pretrained, "num_classes": 0, "in_chans": channels}
        size = self.enlarge_to or image_size
        try:
            return _create_model(self.model, img_size=size, **options)
        except TypeError:  # most convolutional networks take images of any size, and no img_size
            return _create_model(self.model, **options)


class _Enlarged(nn.Module):
    """Enlarge images bicubically to `size` pixels on a side for a network."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network, self.shape = network, (size, size)
        self.register_buffer("size", torch.tensor(size))  # fingerprints cover tensors alone

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, F)
        features: Tensor = self.network(F.interpolate(x, self.shape, mode="bicubic"))
        return features


def _create_model(model: str, **options: Any) -> nn.Module:
    try:
        network: nn.Module = _timm().create_model(model, **options)
    except TypeError:
        raise
    except Exception as error:  # errors of timm, of the hub and of the network share no base class
        public = " with its public weights, which it downloads at their first use"
        description = model + (public if options["pretrained"] else "")
        raise ConfigError(f"timm cannot make {description}: {error}") from error
    return network


def _timm() -> Any:
    """Import timm at its first use.

    Raises:
        ConfigError: It is not installed, or the torchvision that it imports does not fit torch.
    """
    try:
        return importlib.import_module("timm")
    except Exception as error:  # a torchvision that does not fit torch raises a RuntimeError
        raise ConfigError(
            f"timm cannot be imported ({error}). Install the extra: pip install 'datastill[timm]'."
            " timm imports torchvision, which must be built for the same torch: beside a CPU-only"
            " torch, install it from https://download.pytorch.org/whl/cpu"
        ) from error
