"""What an architecture implements, and the network class that all architectures share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor, nn

from datastill.core.errors import ConfigError
from datastill.core.lookup import find, public_name
from datastill.core.options import check_bounds, from_json, to_json


class Network(nn.Module):
    """A body with a linear head: `forward(x) = head(embed(x))`.

    Architectures make it: call one, as in `ConvNet()(image_size=32, channels=3, outputs=10)`.

    Args:
        architecture: Builds the body.
        image_size: Side of the square images, in pixels.
        channels: Channels of the images (C).
        outputs: Outputs of the head; None leaves the head out.

    Attributes:
        body: Maps (B, C, H, W) to (B, F).
        num_features: F.
        head: `nn.Linear(F, outputs)`, or `nn.Identity()` without a head.

    Example:
        >>> import torch
        >>> from datastill.networks.convnet import ConvNet
        >>> network = ConvNet(widths=(8, 16))(image_size=16, channels=3, outputs=10)
        >>> images = torch.rand(5, 3, 16, 16)
        >>> network(images).shape, network.embed(images).shape
        (torch.Size([5, 10]), torch.Size([5, 256]))
    """

    def __init__(
        self,
        architecture: "Architecture",
        image_size: int,
        channels: int,
        *,
        outputs: int | None,
    ) -> None:
        super().__init__()
        self.architecture, self.image_size, self.channels = architecture, image_size, channels
        self.body, self.num_features = architecture.build_body(image_size, channels)
        self.head = nn.Identity() if outputs is None else nn.Linear(self.num_features, outputs)

    @property
    def outputs(self) -> int:
        """Number of values that `forward` returns per image."""
        return self.num_features if isinstance(self.head, nn.Identity) else self.head.out_features

    def embed(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, F)
        """Compute the features below the head."""
        features: Tensor = self.body(x)
        return features

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, outputs)
        """Compute the outputs of the head."""
        outputs: Tensor = self.head(self.embed(x))
        return outputs


@dataclass(frozen=True)
class Architecture(ABC):
    """How to build a network; a value whose fields are the hyperparameters.

    Subclass it in a new file of `datastill/networks` to add a network: implement `build_body` and
    `min_size`. Types and bounds of the fields are checked when an object is made.

    Example:
        >>> @dataclass(frozen=True)
        ... class Pixels(Architecture):
        ...     def min_size(self):
        ...         return 1
        ...     def build_body(self, image_size, channels):
        ...         return nn.Flatten(), channels * image_size**2
        >>> network = Pixels()(image_size=8, channels=3, outputs=10)
        >>> network.head
        Linear(in_features=192, out_features=10, bias=True)
    """

    def __post_init__(self) -> None:
        check_bounds(self)

    @abstractmethod
    def build_body(self, image_size: int, channels: int) -> tuple[nn.Module, int]:
        """Build everything below the head, with weights from torch's global generator.

        Args:
            image_size: Side of the square images, in pixels.
            channels: Channels of the images (C).

        Returns:
            A module that maps (B, C, H, W) to (B, F), and F.
        """

    @abstractmethod
    def min_size(self) -> int:
        """Return the smallest image size that the body can take, in pixels."""

    @final
    def check(self, image_size: int) -> None:
        """Check that images are large enough, before any work.

        Raises:
            ConfigError: They are not; the message says how large they must be.
        """
        if image_size < self.min_size():
            raise ConfigError(
                f"{self} needs images of at least {self.min_size()} pixels, got {image_size};"
                " raise --image-size or choose a network with fewer blocks"
            )

    @final
    def __call__(self, *, image_size: int, channels: int, outputs: int | None) -> Network:
        """Make a network with weights from torch's global generator.

        Args:
            image_size: Side of the square images, in pixels.
            channels: Channels of the images.
            outputs: Outputs of the linear head; with None the network returns its features.

        Raises:
            ConfigError: The images are too small for this architecture.
        """
        self.check(image_size)
        return Network(self, image_size, channels, outputs=outputs)


def network_spec(network: Network) -> dict[str, Any]:
    """Return everything but the weights that `rebuild` needs, as JSON values for a file."""
    architecture = network.architecture
    return {
        "architecture": {"name": public_name(architecture), **to_json(architecture)},
        "image_size": network.image_size,
        "channels": network.channels,
        "outputs": None if isinstance(network.head, nn.Identity) else network.outputs,
    }


def rebuild(spec: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Network:
    """Make the network that `network_spec` describes, with its weights.

    Raises:
        KeyError: The description lacks a part.
        RuntimeError: The weights do not fit.
    """
    fields = dict(spec["architecture"])
    architecture: Architecture = from_json(find("datastill.networks", fields.pop("name")), fields)
    shape = {name: spec[name] for name in ("image_size", "channels", "outputs")}
    network = architecture(**shape)
    network.load_state_dict(weights)
    return network


def copy_body(source: Network, into: Network) -> None:
    """Copy all weights and buffers but the head's between networks of the same architecture.

    Raises:
        RuntimeError: The architectures or image sizes differ.
    """
    into.body.load_state_dict(source.body.state_dict())
