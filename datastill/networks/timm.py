"""Any network of timm (PyTorch Image Models), written timm:NAME; needs the extra `timm`."""

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from datastill.ground.errors import ConfigError
from datastill.ground.options import check_bounds, option
from datastill.networks._base import AbstractArchitecture


@dataclass(frozen=True)
class Weights:
    """What timm gives for a name: tensors, the pixels that they expect, and where they are from."""

    tensors: Mapping[str, Tensor]
    mean: tuple[float, ...]  # (C,), in unit pixels
    std: tuple[float, ...]  # (C,), in unit pixels
    origin: dict[str, Any]  # JSON: name, version of timm, tag, address, licence


@dataclass(frozen=True)
class Timm(AbstractArchitecture):
    """A network of timm without its classifier; features are what the classifier would see.

    As an architecture it starts from random weights, like all others. Its public weights are used
    by `TargetModel.from_timm`, that is, `--target timm:NAME`.
    """

    model: str = option(
        "resnet10t", "name in timm, such as resnet18 or vit_tiny_patch16_224.augreg_in21k"
    )

    def __post_init__(self) -> None:
        check_bounds(self)

    def min_size(self) -> int:
        """1, if timm is there and has the model; its own limits it tells only when it is built.

        Raises:
            ConfigError: timm cannot be imported, or has no such model.
        """
        timm = _timm()
        if ":" not in self.model and not timm.is_model(self.model):  # not hf-hub:, not local-dir:
            near = difflib.get_close_matches(self.model, timm.list_models(), n=1)
            hint = f", did you mean {near[0]!r}?" if near else ";"
            raise ConfigError(
                f"timm has no model {self.model!r}{hint} timm.list_models() has them all"
            )
        return 1

    def build_body(self, image_size: int, channels: int) -> tuple[nn.Module, int]:
        """A network with random weights, and its number of features, found by trying.

        Raises:
            ConfigError: the model takes no images of this size.
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

    def weights(self, image_size: int, channels: int, *, pretrained: bool = True) -> Weights:
        """The public weights, which timm downloads at their first use; or random ones.

        For images that have not three channels, timm adds or repeats the weights of the first
        layer, and mean and deviation are averages over the three.

        Raises:
            ConfigError: timm cannot be imported, has no such model, or cannot get its weights.
        """
        self.min_size()
        body: Any = self._create(image_size, channels, pretrained=pretrained)
        known = body.pretrained_cfg
        address = known.get("hf_hub_id") or known.get("url") or known.get("file") or ""
        origin = {
            "model": self.model,
            "version": _timm().__version__,
            "weights": address if pretrained else "random",
            "licence": known.get("license") or "",
        }
        mean, std = (_over(channels, known[word]) for word in ("mean", "std"))
        return Weights(body.state_dict(), mean, std, origin)

    def _create(self, image_size: int, channels: int, *, pretrained: bool) -> nn.Module:
        wanted = {"pretrained": pretrained, "num_classes": 0, "in_chans": channels}
        try:
            return _made(self.model, **wanted, img_size=image_size)
        except TypeError:  # most convolutional networks take images of any size, and no img_size
            return _made(self.model, **wanted)


def _made(model: str, **wanted: Any) -> nn.Module:
    try:
        made: nn.Module = _timm().create_model(model, **wanted)
    except TypeError:
        raise
    except Exception as error:  # of timm, of the hub, of the network: they share no base class
        public = " with its public weights, which it downloads at their first use"
        what = model + (public if wanted["pretrained"] else "")
        raise ConfigError(f"timm cannot make {what}: {error}") from error
    return made


def _over(channels: int, values: tuple[float, ...]) -> tuple[float, ...]:
    """As many values as there are channels: those given, or their average."""
    same = len(values) == channels
    return tuple(values) if same else (sum(values) / len(values),) * channels


def _timm() -> Any:
    """The package, imported at its first use.

    Raises:
        ConfigError: it is not installed, or the torchvision that it imports does not fit torch.
    """
    try:
        return importlib.import_module("timm")
    except Exception as error:  # a torchvision that does not fit torch raises a RuntimeError
        raise ConfigError(
            f"timm cannot be imported ({error}). Install the extra: pip install 'datastill[timm]'."
            " timm imports torchvision, which must be built for the same torch: beside a CPU-only"
            " torch, install it from https://download.pytorch.org/whl/cpu"
        ) from error
