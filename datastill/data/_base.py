"""Image sources: where images come from, as frozen values with one verb, `load`."""

import dataclasses
import hashlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from datastill.data._prepared import Arrays, Prepared, arrays_of
from datastill.data._raw import Origin, RawImages
from datastill.ground import lookup
from datastill.ground.errors import ConfigError, DataError, SubsetWarning
from datastill.ground.options import to_json
from datastill.ground.rng import derive
from datastill.images import ImageSet, Normalizer

SMOKE_CLASSES = 10


@dataclass(frozen=True)
class AbstractImageSource(ABC):
    """A data set: how its files are found, how they are read, and what is known about it."""

    num_classes: ClassVar[int | None]  # K of the official data; None where unlabelled or unknown
    native_size: ClassVar[int | None]  # pixels on a side; None where images have many sizes
    channels: ClassVar[int]
    licence: ClassVar[str]
    citation: ClassVar[str]
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    labelled: ClassVar[bool] = True  # can its images have labels?
    # official images per split, or per SPLIT:OPTION
    counts: ClassVar[Mapping[str, int]] = MappingProxyType({})

    @abstractmethod
    def _find(self, data_root: Path | None) -> Origin | None:
        """Where the images lie on this machine; None for sources that are embedded."""

    @abstractmethod
    def _read(self, split: str, image_size: int, origin: Origin | None) -> RawImages:
        """Decode one split of what `_find` found."""

    @final
    @property
    def name(self) -> str:
        """The public name, with the last part of a folder's path: cifar100, folder:photos."""
        values = (Path(str(value)).name for value in to_json(self).values())
        return ":".join([lookup.public_name(self), *filter(None, values)])

    @final
    def load(
        self,
        split: str = "train",
        image_size: int | None = None,
        data_root: str | Path | None = None,
    ) -> ImageSet:
        """One split, resized; read once, then memory-mapped from the cache.

        `data_root` is where the official files are. Once they were prepared it may be left out.

        Raises:
            DataError: files are missing or damaged, or there is no such split.
            ConfigError: `image_size` is not positive.
        """
        if split not in self.splits:
            raise DataError(f"{self.name} has no split {split!r}, only {', '.join(self.splits)}")
        size = self.size(image_size)
        origin = self.origin(size, data_root)
        train = self._arrays("train", size, origin)
        wanted = train if split == "train" else self._arrays(split, size, origin)
        return ImageSet(
            f"{self.name}/{split}", wanted.images, train.normalizer, wanted.labels, wanted.classes
        )

    @final
    def official_count(self, split: str) -> int | None:
        """How many images a split should have; None where nobody has said so."""
        named = [f"{split}:{value}" for value in to_json(self).values()]
        return next((self.counts[key] for key in [*named, split] if key in self.counts), None)

    @final
    def miniature(self, split: str, image_size: int | None = None) -> ImageSet:
        """A few synthetic images with the size, channels and labels of this data set.

        For `--scale smoke`: nothing is read. There are at most `SMOKE_CLASSES` classes, each with
        four images in the training split and two in any other.
        """
        size = self.size(image_size)
        classes = min(self.num_classes or SMOKE_CLASSES, SMOKE_CLASSES)
        images = {
            part: _random_images((count * classes, self.channels, size, size), part)
            for part, count in (("train", 4), (split, 4 if split == "train" else 2))
        }
        labels = torch.arange(len(images[split])) % classes if self.labelled else None
        names = tuple(f"class {k}" for k in range(classes)) if self.labelled else ()
        normalizer = Normalizer.of(images["train"])
        return ImageSet(f"{self.name}/{split}", images[split], normalizer, labels, names)

    @final
    def size(self, image_size: int | None) -> int:
        """The size asked for, or the native one.

        Raises:
            DataError: none was asked for and the images have many sizes.
            ConfigError: it is not positive.
        """
        size = self.native_size if image_size is None else image_size
        if size is None:
            raise DataError(f"{self.name} needs --image-size: its images may have any size")
        if size < 1:
            raise ConfigError(f"image_size={size} pixels; it must be positive")
        return size

    @final
    def origin(self, image_size: int, data_root: str | Path | None = None) -> Origin | None:
        """Where the images lie; where `data_root` is not given, the place that was read last.

        Raises:
            DataError: they are not there and cannot be downloaded.
        """
        if data_root is not None:
            return self._find(Path(data_root))
        last = self.prepared("train", image_size).origin()
        if last is None or not last.outlives:
            return self._find(None)
        # what was prepared stays usable when the archive is gone, but not when it has changed
        return self._find(last.path) if last.path.exists() else last

    @final
    def prepared(self, split: str, image_size: int) -> Prepared:
        """The place in the cache for one split at one size."""
        key = lookup.public_name(self)
        if values := to_json(self):
            key += "-" + hashlib.sha256(repr(values).encode()).hexdigest()[:8]
        return Prepared.place(key, image_size, split)

    def _arrays(self, split: str, image_size: int, origin: Origin | None) -> Arrays:
        if origin is None:
            return arrays_of(self._checked(split, image_size, None))
        prepared = self.prepared(split, image_size)
        if (arrays := prepared.read(origin)) is not None:
            return arrays
        with prepared.alone():
            arrays = prepared.read(origin)  # another process may have been faster
            if arrays is None:
                prepared.write(self._checked(split, image_size, origin), origin)
                arrays = prepared.read(origin)
        assert arrays is not None, prepared
        return arrays

    def _checked(self, split: str, image_size: int, origin: Origin | None) -> RawImages:
        raw = self._read(split, image_size, origin)
        raw.check(f"{self.name}/{split}")
        found, official = len(raw.images), self.official_count(split) or len(raw.images)
        if found != official:
            warnings.warn(
                f"{self.name}/{split} has {found} images here, officially {official}; if that is"
                " no subset on purpose, extract the archive again",
                SubsetWarning,
                stacklevel=2,
            )
        return raw


def _random_images(shape: tuple[int, int, int, int], split: str) -> Tensor:  # -> (N, C, S, S) uint8
    """Smooth random pictures: 4 x 4 patches of one colour each."""
    count, channels, size, _ = shape
    rng = np.random.default_rng(derive(0, "miniature", split))
    patches = torch.from_numpy(rng.integers(0, 256, (count, channels, 4, 4), np.uint8))
    repeats = -(-size // 4)
    enlarged = patches.repeat_interleave(repeats, 2).repeat_interleave(repeats, 3)
    return enlarged[:, :, :size, :size].contiguous()


def source(name: str) -> AbstractImageSource:
    """The source called `name`, such as cifar100; folder:PATH reads any folder of images.

    Raises:
        ConfigError: there is no such source; the message has the nearest name.
    """
    public, colon, value = name.partition(":")
    cls = lookup.find("datastill.data", public)
    if colon and not dataclasses.fields(cls):
        raise ConfigError(f"{name!r}: {public} takes nothing after a colon; write {public!r}")
    found: AbstractImageSource = cls(value) if colon else cls()
    return found
