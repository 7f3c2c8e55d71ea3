"""Images in memory: unsigned bytes, optional labels, and the statistics of their training split.

Capital letters in shape comments, here and everywhere: B batch, N source images, M distilled
images, C channels, H and W height and width, F features, D target dimension, K classes.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor, nn

from datastill.ground.errors import ConfigError, DataError
from datastill.ground.machine import Machine
from datastill.ground.memory import has_room
from datastill.ground.rng import fork
from datastill.maths.zca import Zca

BLOCK = 1024  # images that are measured or hashed at a time
LARGEST_ZCA = 12_288  # values of an image; the matrix has 0.6 GB then


@dataclass(frozen=True)
class Normalizer:
    """Per-channel mean and standard deviation of unit pixels: one z-score for all networks.

    A few methods whiten the z-scores too (`ImageSet.whitened`).
    """

    mean: tuple[float, ...]  # (C,), in unit pixels
    std: tuple[float, ...]  # (C,), in unit pixels, > 0
    zca: Zca | None = field(default=None, repr=False)  # of z-scores

    @staticmethod
    def of(images: Tensor) -> "Normalizer":
        """Measure `images`, uint8 (N, C, H, W); see `of_blocks`."""
        return Normalizer.of_blocks(torch.split(images, BLOCK))

    @staticmethod
    def of_blocks(blocks: Iterable[Tensor]) -> "Normalizer":
        """Measure images that come in blocks, each uint8 (n, C, H, W).

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
        known: Mapping[str, Iterable[float]], zca: Zca | None = None
    ) -> "Normalizer":
        """Back from `statistics`."""
        return Normalizer(tuple(known["mean"]), tuple(known["std"]), zca)

    def __call__(self, unit_pixels: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        """Unit pixels, usually in [0, 1], to normalized pixels."""
        mean, std = (_per_channel(values, unit_pixels) for values in (self.mean, self.std))
        scores = (unit_pixels - mean) / std
        return scores if self.zca is None else self.zca(scores)

    def inverse(self, normalized: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        """Normalized pixels back to unit pixels."""
        mean, std = (_per_channel(values, normalized) for values in (self.mean, self.std))
        scores = normalized if self.zca is None else self.zca.inverse(normalized)
        return scores * std + mean

    def to(self, device: str) -> "Normalizer":
        """The same normalizer, its whitening on the device of the pixels that it will see."""
        return self if self.zca is None else replace(self, zca=self.zca.to(device))

    @property
    def statistics(self) -> dict[str, list[float]]:
        """Mean and deviation as JSON; whitening is a matrix and goes with tensors."""
        return {"mean": list(self.mean), "std": list(self.std)}


@dataclass(frozen=True)
class ImageSet:
    """Images of one split, all of one size, with or without labels.

    Raises:
        DataError: shapes or types do not fit together.
    """

    name: str  # such as cifar100/train
    images: Tensor = field(repr=False)  # (N, C, H, W) uint8, possibly memory-mapped
    normalizer: Normalizer  # of the training split
    labels: Tensor | None = field(default=None, repr=False)  # (N,) int64 in [0, K)
    classes: tuple[str, ...] = field(default=(), repr=False)  # K class names in label order

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

    @property
    def channels(self) -> int:
        return int(self.images.shape[1])

    @property
    def image_size(self) -> int:
        """Pixels on a side."""
        return int(self.images.shape[2])

    @property
    def num_classes(self) -> int:
        """K, from the class names; 0 without labels."""
        return len(self.classes) if self.labels is not None else 0

    def unit_pixels(self, index: Tensor | slice) -> Tensor:  # (B,) int64 -> (B, C, H, W)
        """The images at `index` as float32 in [0, 1]."""
        return self.images[index].float() / 255

    def normalized(self, index: Tensor | slice) -> Tensor:  # (B,) int64 -> (B, C, H, W)
        """The images at `index` as normalized pixels, float32."""
        return self.normalizer(self.unit_pixels(index))

    def pixels(self, index: Tensor, device: str) -> Tensor:  # (B,) int64 -> (B, C, H, W) uint8
        """The bytes at `index`, on a device; a GPU that has room for all images keeps them all."""
        kept = self._kept_on(device)
        return kept[index.to(kept.device, non_blocking=True)].to(device, non_blocking=True)

    @torch.no_grad()
    def outputs(
        self,
        network: nn.Module,
        machine: Machine,
        *,
        normalizer: Normalizer | None = None,
        batch: int = 512,
    ) -> Tensor:  # (N, outputs), on the device
        """What a network says of all images, not augmented, normalised by their own statistics.

        `batch` of them are seen at once; it matters to a network in training mode alone.
        """
        device = machine.device
        normalizer = (normalizer or self.normalizer).to(device)
        run = machine.run if network.training else machine.run_each
        parts = torch.split(torch.arange(len(self)), batch)
        unit = (self.pixels(index, device).float() / 255 for index in parts)
        return torch.cat([run(network, normalizer(x)) for x in unit])

    def take(self, index: Tensor, *, name: str | None = None) -> "ImageSet":
        """The images (and labels) at `index`, with the same normalizer."""
        labels = None if self.labels is None else self.labels[index]
        return ImageSet(
            name or self.name, self.images[index], self.normalizer, labels, self.classes
        )

    def limit(self, count: int | None, seed: int) -> "ImageSet":
        """A seeded random subset of `count` images; everything where `count` is None."""
        if count is None or count >= len(self):
            return self
        chosen = torch.randperm(len(self), generator=fork(seed, "limit", self.name))[:count]
        return self.take(chosen.sort().values)

    def split(self, held_out: float, seed: int) -> tuple["ImageSet", "ImageSet"]:
        """(kept, held out): a seeded random split, `held_out` being a share in (0, 1)."""
        order = torch.randperm(len(self), generator=fork(seed, "held-out", self.name))
        cut = max(1, round(held_out * len(self)))
        if cut >= len(self):
            raise DataError(f"{self.name} has {len(self)} images, too few to hold {held_out} out")
        kept, out = order[cut:].sort().values, order[:cut].sort().values
        return self.take(kept), self.take(out, name=f"{self.name}/held-out")

    def whitened(self, ridge_of_mean: float) -> "ImageSet":
        """The same images, with a normalizer that whitens; `Zca.fit` says what the ridge is.

        Raises:
            ConfigError: the matrix would have more than 12,288 rows (64 pixels in three channels).
        """
        values = self.images[0].numel()
        if values > LARGEST_ZCA:
            raise ConfigError(
                f"whitening {self.name} needs a matrix of {values}x{values}; it is offered up to"
                f" {LARGEST_ZCA}: use smaller images, or turn whitening off"
            )
        plain = replace(self.normalizer, zca=None)
        blocks = (plain(block.float() / 255) for block in torch.split(self.images, BLOCK))
        return self.normalized_by(replace(plain, zca=Zca.fit(blocks, ridge_of_mean)))

    def normalized_by(self, normalizer: Normalizer) -> "ImageSet":
        """The same images, fed to networks through another normalizer."""
        return replace(self, normalizer=normalizer)

    def unlabelled(self) -> "ImageSet":
        """The same images without their labels."""
        return ImageSet(self.name, self.images, self.normalizer)

    def _kept_on(self, device: str) -> Tensor:
        """All images on a device, or on the host where the device has no room for them."""
        if device not in self._copies:
            roomy = device == "cpu" or has_room(self.images.nbytes, device)
            self._copies[device] = self.images.to(device) if roomy else self.images
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
    return _kept_there(tuple(values), like.device, like.dtype)


@lru_cache(maxsize=64)
def _kept_there(values: tuple[float, ...], device: torch.device, kind: torch.dtype) -> Tensor:
    """Copied once: each copy from the host would wait for all that a GPU has queued."""
    return torch.tensor(values, device=device, dtype=kind)[:, None, None]


def _grey_levels(images: Tensor) -> Tensor:  # uint8 (n, C, H, W) -> int64 (C, 256)
    """How often every grey level occurs in every channel."""
    channels = images.unbind(1)
    return torch.stack([torch.bincount(x.flatten(), minlength=256) for x in channels])
