"""What is distilled: a source, a target model and a number of images."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datastill.augment.crop_flip import CropFlip
from datastill.core.errors import ConfigError
from datastill.core.lookup import public_name
from datastill.core.machine import Machine
from datastill.core.options import to_json
from datastill.core.progress import logger
from datastill.core.ranks import Ranks
from datastill.distilled_set import DistilledSet
from datastill.images import ImageSet
from datastill.networks.architecture import Architecture, Network
from datastill.networks.convnet import ConvNet
from datastill.stored_form.compression import MOST_COMPONENTS, Compression, Encoder, Mosaics
from datastill.stored_form.stored import TargetBasis
from datastill.target_cache import TargetCache
from datastill.target_model import TargetModel

BASIS_IMAGES = 10_000  # source images at most that the basis of int8 targets is fitted to


@dataclass(frozen=True, eq=False)
class Problem:
    """What is distilled: a source, a target model and a number of images. It never changes.

    Args:
        images: The source, N images.
        target: The target model of methods that learn from representations; None for the others.
        count: Number of distilled images, M.
        seed: Root of all random streams.
        network: Architecture of the inner models.
        machine: Device, precision and ranks that are used.
        cache: Folder for what can be computed again and shared between runs (target
            representations, expert trajectories). None: in memory only.
        compression: How the set is stored. `label-solve` and `krr-st` then start from images as
            they will be decoded. None: in float32.
        start_set: A set with M representations that `label-solve` and `krr-st` start from, in
            place of source images.
        choice: The table by which `choose_form` chose count and stored form, kept as provenance.

    Raises:
        ConfigError: `count` is not within 1 and N, the images are too small for the network, the
            target model was made for other images, or `start_set` does not fit.

    Example:
        >>> import datastill as ds
        >>> ds.Problem(ds.source("digits").load("train"), None, count=10).by_class[3].shape
        torch.Size([106])
    """

    images: ImageSet
    target: TargetModel | None
    count: int
    seed: int = 0
    network: Architecture = ConvNet()
    machine: Machine = Machine()
    cache: Path | None = None
    compression: Compression | None = None
    start_set: DistilledSet | None = None
    choice: dict[str, list[Any]] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.count <= len(self.images):
            raise ConfigError(
                f"count={self.count} distilled images were asked of {self.images.name}, which has"
                f" {len(self.images)}; choose --count from 1 to {len(self.images)}"
            )
        self.network.check(self.images.image_size)
        if self.target is not None:
            self.target.check_images(self.images)
        if self.start_set is not None:
            self._check_start(self.start_set)

    @property
    def ranks(self) -> Ranks:
        """The ranks that distil together."""
        return self.machine.ranks

    @property
    def needed_target(self) -> TargetModel:
        """The target model of a method that needs one."""
        assert self.target is not None, "Method.check refuses this before any work"
        return self.target

    @property
    def labels(self) -> Tensor:  # (N,) int64
        """The labels of the source, for a method that needs them."""
        assert self.images.labels is not None, "Method.check refuses this before any work"
        return self.images.labels

    def represent(self, index: Tensor) -> Tensor:  # (B,) int64 -> (B, D)
        """Return the target representations of source images, not augmented."""
        return self.needed_target.represent_images(self.images.take(index))

    @cached_property
    def target_basis(self) -> TargetBasis | None:
        """The basis of representations that are stored as int8 codes; else None.

        The principal axes of the target model's outputs on a random part of the source, the same
        for all seeds. Those of the set's own targets would be poor where M is small.
        """
        if self.compression is None or self.compression.targets not in (None, "int8"):
            return None
        sample = self.images.unlabelled().limit(BASIS_IMAGES, seed=0)
        views, target = CropFlip(0, flip=False), self.needed_target
        cache = TargetCache(
            target, sample, views, mode="full", precision="float32", folder=self.cache
        )
        components = self.compression.components or MOST_COMPONENTS
        return TargetBasis.principal(cache.values.cpu(), components).first(components)

    def coordinates(self, g: Tensor) -> Tensor:  # (B, dim) -> (B, D)
        """Return the targets that a network learns in place of the target model's outputs.

        Coordinates in `target_basis` where there is one, else the outputs themselves.
        """
        basis = self._basis_on_device
        return g if basis is None else basis.project(g)

    @cached_property
    def _basis_on_device(self) -> TargetBasis | None:
        basis, to_device = self.target_basis, self.machine.to_device
        return basis and TargetBasis(to_device(basis.mean), to_device(basis.basis))

    def stored(self, distilled: DistilledSet) -> DistilledSet:
        """Return a set as its file will have it: as it is where there is no compression.

        Raises:
            ConfigError: It does not fit in the bytes, or the options do not fit it.
        """
        if self.compression is None:
            return distilled
        represented = distilled.target_kind == "representation"
        return distilled.encoded(
            self.encoder(distilled, self.target_basis if represented else None)
        )

    def encoder(self, distilled: DistilledSet, basis: TargetBasis | None) -> Encoder:
        """Prepare to encode a set, whose targets are coordinates in a basis if there is one."""
        assert self.compression is not None, "else nothing is encoded"
        return distilled.encoder(
            self.compression, basis, in_basis=basis is not None, mosaics=self._mosaics
        )

    @cached_property
    def _mosaics(self) -> Mosaics:
        """What was encoded: the last encoding of images that stay as they are finds it."""
        return {}

    def source_pixels(self, index: Tensor) -> Tensor:  # (B,) int64 -> (B, C, H, W) uint8
        """Return the bytes of source images, on the device."""
        return self.images.pixels(index, self.machine.device)

    def network_input(self, index: Tensor, source: ImageSet | None = None) -> Tensor:
        """Return normalized pixels (B, C, H, W) of source images (B,), on the device.

        `source` is the whitened source where a method whitens.
        """
        return (source or self.images).normalizer(self.source_pixels(index).float() / 255)

    def whitened_source(self, ridge_of_mean: float) -> ImageSet:
        """Return the source with a normalizer that whitens by ZCA, on the device."""
        logger.info(f"computing the whitening of {self.images.name}")
        whitened = self.images.whitened(ridge_of_mean)
        return whitened.with_normalizer(whitened.normalizer.to(self.machine.device))

    def new_network(self, outputs: int | None = None) -> Network:
        """Return an untrained network, weights from the global generator.

        Without a number of outputs it classifies the source.
        """
        return self.machine.to_device(
            self.network(
                image_size=self.images.image_size,
                channels=self.images.channels,
                outputs=outputs or self.images.num_classes,
            )
        ).train()

    @cached_property
    def by_class(self) -> list[Tensor]:
        """Indices of the source images of each class: K tensors (n_k,) int64."""
        return [torch.nonzero(self.labels == k).flatten() for k in range(self.images.num_classes)]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The values that identify this problem: stored in artefacts, compared on resume."""
        return {
            "source": {"name": self.images.name, "fingerprint": self.images.fingerprint},
            "target": self.target
            and {
                "fingerprint": self.target.fingerprint,
                **self.target.provenance,
            },
            "network": {"name": public_name(self.network), **to_json(self.network)},
            "count": self.count,
            "seed": self.seed,
            "precision": self.machine.precision,
            **self._form_identity,
        }

    @property
    def _form_identity(self) -> dict[str, Any]:
        """What is chosen of the stored form and of the start; empty by default."""
        identity: dict[str, Any] = {}
        if self.compression is not None:
            options = to_json(self.compression)
            identity["compression"] = {k: v for k, v in options.items() if v is not None}
        if self.start_set is not None:
            identity["start"] = {
                "method": self.start_set.method,
                "fingerprint": self.start_set.fingerprint,
            }
        if self.choice is not None:
            identity["choice"] = self.choice
        return identity

    def _check_start(self, start: DistilledSet) -> None:
        shape = (self.count, self.images.channels, *2 * [self.images.image_size])
        if start.target_kind != "representation" or start.pixel_space == "raw":
            raise ConfigError(
                f"the set to start from has {start.target_kind} targets and {start.pixel_space}"
                " pixels; expected representations, and unit or normalized pixels"
            )
        if start.images.shape != shape:
            raise ConfigError(
                f"the set to start from has images {tuple(start.images.shape)}, expected {shape}"
            )
        dim = None if self.target is None else self.target.dim
        if start.target_outputs.shape[1] != dim:
            raise ConfigError(
                f"the set to start from has targets of {start.target_outputs.shape[1]} numbers, the"
                f" target model {dim}; give the target model that it was made with"
            )
