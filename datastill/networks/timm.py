"""Networks of timm (PyTorch Image Models), written timm:NAME; they need the extra `timm`."""

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from datastill.core.errors import ConfigError
from datastill.core.options import option
from datastill.networks.architecture import Architecture


@dataclass(frozen=True)
class TimmWeights:
    """The weights of a model, the normalization of pixels that they expect, and their source."""

    tensors: Mapping[str, Tensor]
    mean: tuple[float, ...]  # (C,), in unit pixels
    std: tuple[float, ...]  # (C,), in unit pixels
    origin: dict[str, Any]  # JSON: model, version of timm, address, licence


@dataclass(frozen=True)
class Timm(Architecture):
    """A network of timm without its classifier; the features are the classifier's input.

    As an architecture it starts from random weights, like all others. `TargetModel.from_timm`
    (`--target timm:NAME`) uses its public weights.

    Args:
        model: Name in timm, such as resnet18 or vit_tiny_patch16_224.augreg_in21k.

    Example:
        >>> architecture = Timm("resnet10t")  # timm itself is imported when a network is made
        >>> architecture.build_body(32, channels=3)[1]  # doctest: +SKIP
        512
    """

    model: str = option(
        "resnet10t", "name in timm, such as resnet18 or vit_tiny_patch16_224.augreg_in21k"
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
            ConfigError: The model takes no images of this size.
        """
        body = self._create(image_size, channels, pretrained=False).eval()
        try:
            with torch.no_grad():
                features = body(torch.zeros(1, channels, image_size, image_size)).shape[1]
        except (AssertionError, RuntimeError, ValueError) as error:
            raise ConfigError(
                f"timm's {self.model} takes no images of {image_size} pixels: {error}"
            ) from error
        return body.train(), int(features)

    def weights(self, image_size: int, channels: int, *, pretrained: bool = True) -> TimmWeights:
        """Get the public weights, which timm downloads at their first use, or random ones.

        For images without three channels, timm adds or repeats the weights of the first layer, and
        mean and standard deviation are averages over the three.

        Args:
            image_size: Side of the images, in pixels.
            channels: Channels of the images (C).
            pretrained: False gives random weights from torch's global generator.

        Raises:
            ConfigError: timm cannot be imported, has no such model, or cannot get its weights.
        """
        self.min_size()
        body: Any = self._create(image_size, channels, pretrained=pretrained)
        config = body.pretrained_cfg
        address = config.get("hf_hub_id") or config.get("url") or config.get("file") or ""
        origin = {
            "model": self.model,
            "version": _timm().__version__,
            "weights": address if pretrained else "random",
            "licence": config.get("license") or "",
        }
        mean, std = config["mean"], config["std"]
        if len(mean) != channels:
            mean, std = ((sum(values) / len(values),) * channels for values in (mean, std))
        return TimmWeights(body.state_dict(), tuple(mean), tuple(std), origin)

    def _create(self, image_size: int, channels: int, *, pretrained: bool) -> nn.Module:
        options = {"pretrained": pretrained, "num_classes": 0, "in_chans": channels}
        try:
            return _create_model(self.model, img_size=image_size, **options)
        except TypeError:  # most convolutional networks take images of any size, and no img_size
            return _create_model(self.model, **options)


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
