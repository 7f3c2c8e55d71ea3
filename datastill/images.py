"""Images in memory: unsigned bytes, optional labels, and the statistics of their training split.

Capital letters in shape comments of all modules: B batch, N source images, M distilled
images, C channels, H and W height and width, F features, D target dimension, K classes.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor, nn

from datastill.core.errors import ConfigError, DataError
from datastill.core.machine import Machine, fits_in_memory
from datastill.core.rng import fork
from datastill.ops.zca import Zca

BLOCK = 1024  # images that are measured or hashed at a time
LARGEST_ZCA = 12_288  # values of an image; the matrix has 0.6 GB then


@dataclass(frozen=True)
class Normalizer:
    """The z-score by channel that turns unit pixels into the input of networks.

    Args:
        mean: (C,), of unit pixels.
        std: (C,), of unit pixels, above 0.
        zca: Whitening of the z-scores, which a few methods use (`ImageSet.whitened`).

    Example:
        >>> normalizer = Normalizer((0.5,), (0.25,))
        >>> normalizer(torch.ones(2, 1, 4, 4)).unique()
        tensor([2.])
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    zca: Zca | None = field(default=None, repr=False)

    @staticmethod
    def of(images: Tensor) -> "Normalizer":
        """Measure the statistics of `images`, uint8 (N, C, H, W); see `of_blocks`."""
        return Normalizer.of_blocks(torch.split(images, BLOCK))

    @staticmethod
    def of_blocks(blocks: Iterable[Tensor]) -> "Normalizer":
        """Measure the statistics of images that come in blocks, each uint8 (n, C, H, W).

        The 256 grey levels are counted, so the cut into blocks changes no digit. A channel
        without any variation gets the standard deviation of one grey level, 1/255.
        """
        counts = sum(
            (_grey_levels(block) for block in blocks), torch.zeros(1, 256, dtype=torch.int64)
        )
        shares = counts.double() / counts.sum(1, keepdim=True)  # (C, 256)
        unit = torch.arange(256, dtype=torch.float64) / 255
        mean = (shares * unit).sum(1)
        variance = (shares * (unit - mean[:, None]).square()).sum(1)
        std = variance.sqrt().clamp_min(1 / 255)
        return Normalizer(tuple(mean.tolist()), tuple(std.tolist()))

    @staticmethod
    def from_statistics(
        statistics: Mapping[str, Iterable[float]], zca: Zca | None = None
    ) -> "Normalizer":
        """Make the normalizer that has these `statistics`."""
        return Normalizer(tuple(statistics["mean"]), tuple(statistics["std"]), zca)

    def __call__(self, unit_pixels: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        """Normalize unit pixels, which are usually in [0, 1]."""
        mean, std = (_per_channel(values, unit_pixels) for values in (self.mean, self.std))
        scores = (unit_pixels - mean) / std
        return scores if self.zca is None else self.zca(scores)

    def inverse(self, normalized: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        """Turn normalized pixels back into unit pixels."""
        mean, std = (_per_channel(values, normalized) for values in (self.mean, self.std))
        scores = normalized if self.zca is None else self.zca.inverse(normalized)
        return scores * std + mean

    def to(self, device: str) -> "Normalizer":
        """Return the same normalizer with its whitening on a device."""
        return self if self.zca is None else replace(self, zca=self.zca.to(device))

    @property
    def statistics(self) -> dict[str, list[float]]:
        """Mean and deviation as JSON; whitening is a matrix and goes with tensors."""
        return {"mean": list(self.mean), "std": list(self.std)}


@dataclass(frozen=True)
class ImageSet:
    """Images of one split, all of one size, with or without labels.

    Args:
        name: Such as "cifar100/train".
        images: (N, C, H, W) uint8, H = W, possibly memory-mapped.
        normalizer: Statistics of the training split.
        labels: (N,) int64 in [0, K).
        classes: K class names in label order.

    Raises:
        DataError: Shapes or types do not fit together.

    Example:
        >>> images = torch.zeros(6, 1, 8, 8, dtype=torch.uint8)
        >>> labels = torch.arange(6) % 2
        >>> toy = ImageSet("toy/train", images, Normalizer.of(images), labels, ("cat", "dog"))
        >>> toy
        <ImageSet toy/train: 6 images of 1 x 8 x 8, 2 classes>
        >>> toy.normalized(slice(0, 2)).shape
        torch.Size([2, 1, 8, 8])
    """

    name: str
    images: Tensor
    normalizer: Normalizer
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shape = tuple(self.images.shape)
        if self.images.dtype != torch.uint8 or len(shape) != 4 or shape[2] != shape[3]:
            raise DataError(
                f"{self.name}: images must be square uint8 (N, C, H, W),"
                f" got {self.images.dtype} {shape}"
            )
        if len(self.normalizer.mean) != shape[1]:
            raise DataError(
                f"{self.name}: the normalizer has {len(self.normalizer.mean)} channels,"
                f" the images have {shape[1]}"
            )
        if self.labels is not None and self.labels.shape != shape[:1]:
            raise DataError(f"{self.name}: {shape[0]} images but {len(self.labels)} labels")

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.images.shape[1:]))
        labels = "unlabelled" if self.labels is None else f"{self.num_classes} classes"
        return f"<ImageSet {self.name}: {len(self)} images of {shape}, {labels}>"

    @property
    def channels(self) -> int:
        return int(self.images.shape[1])

    @property
    def image_size(self) -> int:
        """Pixels on a side."""
        return int(self.images.shape[2])

    @property
    def num_classes(self) -> int:
        """The number of classes K; 0 without labels."""
        return len(self.classes) if self.labels is not None else 0

    def unit_pixels(self, index: Tensor | slice) -> Tensor:  # (B,) int64 -> (B, C, H, W)
        """Return the images at `index` as float32 in [0, 1]."""
        return self.images[index].float() / 255

    def normalized(self, index: Tensor | slice) -> Tensor:  # (B,) int64 -> (B, C, H, W)
        """Return the images at `index` as normalized pixels, float32."""
        return self.normalizer(self.unit_pixels(index))

    def pixels(self, index: Tensor, device: str) -> Tensor:  # (B,) int64 -> (B, C, H, W) uint8
        """Return the bytes at `index`, on a device; a GPU with room for all images keeps them."""
        images = self._copy_on(device)
        return images[index.to(images.device, non_blocking=True)].to(device, non_blocking=True)

    @torch.no_grad()
    def predict(
        self,
        network: nn.Module,
        machine: Machine,
        *,
        normalizer: Normalizer | None = None,
        batch: int = 512,
    ) -> Tensor:  # (N, outputs), on the device
        """Run a network on all images, without augmentation.

        Args:
            network: Any module from images to outputs.
            machine: Device and precision.
            normalizer: Statistics other than those of these images.
            batch: Images that are run at once; matters only to a network in training mode.

        Returns:
            The outputs (N, outputs), on the device.
        """
        device = machine.device
        normalizer = (normalizer or self.normalizer).to(device)
        run = machine.forward if network.training else machine.forward_in_chunks
        parts = torch.split(torch.arange(len(self)), batch)
        unit = (self.pixels(index, device).float() / 255 for index in parts)
        return torch.cat([run(network, normalizer(x)) for x in unit])

    def take(self, index: Tensor, *, name: str | None = None) -> "ImageSet":
        """Select the images (and labels) at `index`, with the same normalizer."""
        labels = None if self.labels is None else self.labels[index]
        return ImageSet(
            name or self.name, self.images[index], self.normalizer, labels, self.classes
        )

    def limit(self, count: int | None, seed: int) -> "ImageSet":
        """Draw a seeded random subset of `count` images; None keeps all of them."""
        if count is None or count >= len(self):
            return self
        chosen = torch.randperm(len(self), generator=fork(seed, "limit", self.name))[:count]
        return self.take(chosen.sort().values)

    def split(self, held_out: float, seed: int) -> tuple["ImageSet", "ImageSet"]:
        """Split at random by the seed into (kept, held out), a share `held_out` in (0, 1)."""
        order = torch.randperm(len(self), generator=fork(seed, "held-out", self.name))
        cut = max(1, round(held_out * len(self)))
        if cut >= len(self):
            raise DataError(f"{self.name} has {len(self)} images, too few to hold {held_out} out")
        kept, out = order[cut:].sort().values, order[:cut].sort().values
        return self.take(kept), self.take(out, name=f"{self.name}/held-out")

    def whitened(self, ridge_of_mean: float) -> "ImageSet":
        """Return the same images with a normalizer that whitens.

        Args:
            ridge_of_mean: Ridge of the covariance, as a share of its mean eigenvalue (`Zca.fit`).

        Raises:
            ConfigError: The matrix would have more than 12,288 rows (64 pixels in three channels).
        """
        values = self.images[0].numel()
        if values > LARGEST_ZCA:
            raise ConfigError(
                f"whitening {self.name} needs a matrix of {values}x{values}; it is offered up to"
                f" {LARGEST_ZCA}: use smaller images, or turn whitening off"
            )
        plain = replace(self.normalizer, zca=None)
        blocks = (plain(block.float() / 255) for block in torch.split(self.images, BLOCK))
        return self.with_normalizer(replace(plain, zca=Zca.fit(blocks, ridge_of_mean)))

    def with_normalizer(self, normalizer: Normalizer) -> "ImageSet":
        """Return the same images with another normalizer."""
        return replace(self, normalizer=normalizer)

    def unlabelled(self) -> "ImageSet":
        """Return the same images without their labels."""
        return ImageSet(self.name, self.images, self.normalizer)

    def _copy_on(self, device: str) -> Tensor:
        """Return all images on a device, or on the host where the device has no room for them."""
        if device not in self._copies:
            fits = fits_in_memory(self.images.nbytes, device)
            self._copies[device] = self.images.to(device) if fits else self.images
        return self._copies[device]

    @cached_property
    def _copies(self) -> dict[str, Tensor]:
        return {}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over shape, pixels and labels: equal for equal data, whatever its name."""
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        for block in torch.split(self.images, BLOCK):
            digest.update(block.contiguous().numpy().tobytes())
        if self.labels is not None:
            digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()


def _per_channel(values: Sequence[float], like: Tensor) -> Tensor:  # (C,) -> (C, 1, 1)
    return _device_constant(tuple(values), like.device, like.dtype)


@lru_cache(maxsize=64)
def _device_constant(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Copy once: each copy from the host would wait for the queue of a GPU."""
    return torch.tensor(values, device=device, dtype=dtype)[:, None, None]


def _grey_levels(images: Tensor) -> Tensor:  # uint8 (n, C, H, W) -> int64 (C, 256)
    """Count how often every grey level occurs in every channel."""
    channels = images.unbind(1)
    return torch.stack([torch.bincount(x.flatten(), minlength=256) for x in channels])
