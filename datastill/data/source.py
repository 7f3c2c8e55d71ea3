"""Image sources: data sets as frozen values that `load` their images."""

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

from datastill.core import lookup
from datastill.core.errors import ConfigError, DataError, DataWarning, SubsetWarning
from datastill.core.options import to_json
from datastill.core.rng import derive
from datastill.data.cache import EMBEDDED, DataLocation, Prepared, RawImages, cache_folder
from datastill.images import ImageSet, Normalizer

SMOKE_CLASSES = 10


@dataclass(frozen=True)
class ImageSource(ABC):
    """A data set: where its files are, how they are read, and its metadata.

    A subclass defines the class attributes below and two methods: `_find` locates the files (an
    embedded data set needs none), `_read` decodes one split of them. Everything else (cache,
    statistics, checks) is done here. A subclass that has options is a frozen dataclass too.

    Example:
        >>> digits = source("digits")
        >>> digits.num_classes, digits.native_size, digits.official_count("test")
        (10, 16, 797)
        >>> digits.load("train", image_size=8).images.shape
        torch.Size([1000, 1, 8, 8])
    """

    num_classes: ClassVar[int | None] = None  # K of the official data; None where unknown
    native_size: ClassVar[int | None] = None  # pixels on a side; None where images have many sizes
    channels: ClassVar[int] = 3
    licence: ClassVar[str]
    citation: ClassVar[str]
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    labelled: ClassVar[bool] = True  # can its images have labels?
    # official images per split, or per SPLIT:OPTION
    counts: ClassVar[Mapping[str, int]] = MappingProxyType({})

    def _find(self, data_root: Path | None) -> DataLocation:
        """Locate the files on this machine, or download them."""
        return EMBEDDED

    @abstractmethod
    def _read(self, split: str, image_size: int, location: DataLocation) -> RawImages:
        """Decode one split of what `_find` located."""

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
        """Load one split, resized; it is decoded once, then memory-mapped from the cache.

        Args:
            split: "train" or "test".
            image_size: Pixels on a side. Default: the native size of the data set.
            data_root: Folder with the official files, needed until they were prepared once.
                Default: the folder that was read last, else the cache, into which data sets that
                may be downloaded are downloaded.

        Returns:
            The images, uint8 (N, C, S, S), with labels and the statistics of the training split.

        Raises:
            DataError: Files are missing or damaged, or there is no such split.
            ConfigError: `image_size` is not positive.

        Example:
            >>> source("glyphs").load("test")
            <ImageSet glyphs/test: 1056 images of 1 x 16 x 16, unlabelled>
        """
        if split not in self.splits:
            raise DataError(f"{self.name} has no split {split!r}, only {', '.join(self.splits)}")
        size = self.size(image_size)
        location = self.origin(size, data_root)
        train, normalizer = self._read_cached("train", size, location)
        raw = train if split == "train" else self._read_cached(split, size, location)[0]
        for message in dict.fromkeys((*train.warnings, *raw.warnings)):
            warnings.warn(message, DataWarning, stacklevel=2)
        images = torch.from_numpy(raw.images[:])
        labels = None if raw.labels is None else torch.from_numpy(raw.labels)
        return ImageSet(f"{self.name}/{split}", images, normalizer, labels, raw.classes)

    @final
    def official_count(self, split: str) -> int | None:
        """Return the number of images that a split should have; None if it is not published."""
        keys = [*(f"{split}:{value}" for value in to_json(self).values()), split]
        return next((self.counts[key] for key in keys if key in self.counts), None)

    @final
    def miniature(self, split: str, image_size: int | None = None) -> ImageSet:
        """Return a few synthetic images with the size, channels and labels of this data set.

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
        """Return the image size that was passed, or else the native one.

        Raises:
            DataError: There is neither: the images have many sizes.
            ConfigError: It is not positive.
        """
        size = self.native_size if image_size is None else image_size
        if size is None:
            raise DataError(f"{self.name} needs --image-size: its images may have any size")
        if size < 1:
            raise ConfigError(f"image_size={size} pixels; it must be positive")
        return size

    @final
    def origin(self, image_size: int, data_root: str | Path | None = None) -> DataLocation:
        """Locate the files; without `data_root`, where they were when they were prepared.

        Raises:
            DataError: They are not there and cannot be downloaded.
        """
        if data_root is not None:
            return self._find(Path(data_root))
        last = self.prepared("train", image_size).location()
        if last is None or not last.valid_without_source:
            return self._find(None)
        # what was prepared stays usable when the archive is gone, but not when it has changed
        return self._find(last.path) if last.path.exists() else last

    @final
    def prepared(self, split: str, image_size: int) -> Prepared:
        """Return the place in the cache for one split at one size."""
        key = lookup.public_name(self)
        if values := to_json(self):
            key += "-" + hashlib.sha256(repr(values).encode()).hexdigest()[:8]
        return Prepared(cache_folder() / "prepared" / key / str(image_size), split)

    def _read_cached(
        self, split: str, image_size: int, location: DataLocation
    ) -> tuple[RawImages, Normalizer]:
        """Read one split, which is first written into the cache if it is not there."""
        if location == EMBEDDED:
            raw = self._read_checked(split, image_size, location)
            return raw, Normalizer.of(torch.from_numpy(raw.images[:]))
        prepared = self.prepared(split, image_size)
        if (cached := prepared.read(location)) is not None:
            return cached
        with prepared.lock():
            cached = prepared.read(location)  # another process may have been faster
            if cached is None:
                prepared.write(self._read_checked(split, image_size, location), location)
                cached = prepared.read(location)
        assert cached is not None, prepared
        return cached

    def _read_checked(self, split: str, image_size: int, location: DataLocation) -> RawImages:
        raw = self._read(split, image_size, location)
        raw.check(f"{self.name}/{split}")
        count, official = len(raw.images), self.official_count(split) or len(raw.images)
        if count != official:
            warnings.warn(
                f"{self.name}/{split} has {count} images here, officially {official}; if that is"
                " no subset on purpose, extract the archive again",
                SubsetWarning,
                stacklevel=2,
            )
        return raw


def _random_images(shape: tuple[int, int, int, int], split: str) -> Tensor:  # -> (N, C, S, S) uint8
    """Draw smooth random pictures: 4 x 4 patches of one colour each."""
    count, channels, size, _ = shape
    rng = np.random.default_rng(derive(0, "miniature", split))
    patches = torch.from_numpy(rng.integers(0, 256, (count, channels, 4, 4), np.uint8))
    repeats = -(-size // 4)
    enlarged = patches.repeat_interleave(repeats, 2).repeat_interleave(repeats, 3)
    return enlarged[:, :, :size, :size].contiguous()


def source(name: str) -> ImageSource:
    """Return the data set called `name`.

    Args:
        name: Such as "cifar100"; some take an option after a colon: "folder:PATH" reads any folder
            of images, "hf:NAME" a data set of the Hugging Face hub.

    Returns:
        The data set, of which nothing is read before `load`.

    Raises:
        ConfigError: There is no such data set; the message has the nearest name.

    Example:
        >>> source("digits").load("train").classes[:3]
        ('0', '1', '2')
    """
    public, colon, value = name.partition(":")
    cls: type[ImageSource] = lookup.find("datastill.data", public)
    if colon and not dataclasses.fields(cls):
        raise ConfigError(f"{name!r}: {public} takes nothing after a colon; write {public!r}")
    return cls(value) if colon else cls()  # type: ignore[call-arg]
