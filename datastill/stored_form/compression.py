"""Choose the stored form of a set: the codec's quality and the components of its targets."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from datastill.core.errors import ConfigError
from datastill.core.options import Json, check_bounds, option
from datastill.stored_form.mosaic import (
    QUALITIES,
    SHRINK,
    Bytes,
    Codec,
    check_mosaic,
    checksum,
    decode_mosaic,
    decoder,
    encode_mosaic,
    resize,
)
from datastill.stored_form.stored import Stored, TargetBasis, TargetForm

MOST_COMPONENTS = 64  # that are chosen where none are given
Mosaics = dict[tuple[str, int | None], tuple[Tensor, str]]  # encoded, and the checksum of decoded


@dataclass(frozen=True)
class Compression:
    """How a set is stored: what is not given is chosen so that the file fits in `bytes`.

    Raises:
        ConfigError: An option is outside its range, or neither `bytes` nor `quality` are given.

    Example:
        >>> Compression(quality=45).codec
        'avif'
    """

    bytes: int | None = option(None, "largest size of the file", at_least=1)
    codec: Codec = option("avif", "codec of the images")
    quality: int | None = option(None, "of the codec; default: the best that fits", at_least=0)
    stored_size: int | None = option(
        None, "pixels on a side as stored, enlarged on loading; default: as they are", at_least=1
    )
    targets: TargetForm | None = option(
        None, "number format; default: int8 for representations, float16 for soft labels"
    )
    components: int | None = option(
        None, f"of int8 targets; default: at most {MOST_COMPONENTS}, as many as fit", at_least=1
    )

    def __post_init__(self) -> None:
        check_bounds(self)
        low, high = QUALITIES.get(self.codec, (None, None))
        if self.quality is None:
            if self.bytes is None and low is not None:
                raise ConfigError(
                    f"{self.codec} needs a quality; give it, or the bytes that the file may have"
                )
        elif low is None or high is None:
            raise ConfigError(f"{self.codec} loses nothing and has no quality; leave it out")
        elif not low <= self.quality <= high:
            raise ConfigError(f"quality {self.quality} of {self.codec}: expected {low} to {high}")


@dataclass(frozen=True, eq=False)
class Encoder:
    """Encodes one set with any quality and number of components.

    Args:
        tiles: uint8 (M, C, S', S').
        targets: What is stored of the targets: labels, or numbers (M, D).
        basis: Of the numbers, where they are coordinates.
        options: What was asked for.
        form: What is the same in all stored forms of the set.
        mosaics: By checksum of the tiles and quality: encoding takes long. An encoder of other
            tiles empties it.
    """

    tiles: Bytes
    targets: Tensor
    basis: TargetBasis | None
    options: Compression
    form: Json
    mosaics: Mosaics = field(default_factory=dict)

    @staticmethod
    def make(
        unit_pixels: Tensor,
        targets: Tensor,
        options: Compression,
        *,
        num_classes: int,
        basis: TargetBasis | None,
        in_basis: bool,
        mosaics: Mosaics | None = None,
    ) -> "Encoder":
        """Prepare images and targets.

        Args:
            unit_pixels: (M, C, S, S).
            targets: (M, D), or class labels (M,).
            options: What was asked for.
            num_classes: K of soft labels or class labels, 0 where targets are representations.
            basis: Of the targets; None: their own principal axes.
            in_basis: Whether the targets are coordinates in a basis already.
            mosaics: Those that another encoder has made; of equal tiles they are used.

        Raises:
            ConfigError: The options do not fit the set.
        """
        levels = (unit_pixels.detach().cpu() * 255).round()
        (count, channels, image_size), codec = levels.shape[:3], options.codec
        size = options.stored_size or image_size
        check_mosaic(codec, count, channels, size, image_size, error=ConfigError)
        tiles = resize(levels.clamp(0, 255).byte().numpy(), size, SHRINK)
        targets, basis, form = _prepared_targets(targets, options, num_classes, basis, in_basis)
        clipped = int(((levels < 0) | (levels > 255)).sum())
        description = {"codec": codec, "size": size, "targets": form, "clipped": clipped}
        if in_basis or form == "int8":
            description["components"] = targets.shape[1]
        return Encoder(
            tiles, targets, basis, options, description, {} if mosaics is None else mosaics
        )

    @property
    def components(self) -> int:
        """The number of coordinates to choose from; 0 where the targets are none."""
        return 0 if self.form["targets"] != "int8" else int(self.targets.shape[1])

    @cached_property
    def _checksum(self) -> str:
        return checksum(self.tiles)

    def encode(self, quality: int | None, components: int) -> Stored:
        """Return the set with the pixels at a quality, and the first `components` of its codes."""
        codec = self.options.codec
        key = self._checksum, quality
        if key not in self.mosaics:
            for other in [x for x in self.mosaics if x[0] != self._checksum]:
                del self.mosaics[other]
            mosaic = encode_mosaic(self.tiles, codec, quality)
            decoded = decode_mosaic(mosaic, codec, *self.tiles.shape[:3])
            self.mosaics[key] = mosaic, checksum(decoded)
        mosaic, pixels = self.mosaics[key]
        targets, scale, form = self.targets, None, dict(self.form)
        if components:
            targets = targets[:, :components]
            scale = targets.abs().amax(0).clamp_min(1e-30) / 127
            targets = (targets / scale).round().to(torch.int8)
            form["components"] = components
        basis = None if self.basis is None else self.basis.first(targets.shape[1])
        form |= {"pixels": pixels, "decoder": decoder(codec)}
        optional = {
            "quality": quality,
            "budget": self.options.bytes,
            "basis": None if basis is None else basis.fingerprint,
        }
        form |= {name: value for name, value in optional.items() if value is not None}
        return Stored(mosaic, targets, scale, form, basis)

    def smallest_loss(self, size_of: Callable[[Stored], int]) -> Stored:
        """Return the best stored form that fits in the budget.

        Codes get at most half of what the budget has beyond the smallest file; then the best
        quality that fits is taken.

        Args:
            size_of: Returns the bytes of the file of a stored form.

        Raises:
            ConfigError: The budget is below the smallest possible file.
        """
        most, (low, high) = self.components, self._qualities
        if self.options.bytes is None:
            return self.encode(low, most)
        least, budget, smallest = self._least, self.options.bytes, self.check_budget(size_of)
        for_codes = budget if low == high else (budget + smallest) // 2
        count = _largest(least, most, lambda d: size_of(self.encode(low, d)) <= for_codes)
        if low is None or high is None:
            return self.encode(None, count)
        best = _largest(low, high, lambda q: size_of(self.encode(q, count)) <= budget)
        count = _largest(count, most, lambda d: size_of(self.encode(best, d)) <= budget)
        return self.encode(best, count)

    def check_budget(self, size_of: Callable[[Stored], int]) -> int:
        """Return the bytes of the smallest possible file.

        Raises:
            ConfigError: The budget is below it.
        """
        smallest = size_of(self.encode(self._qualities[0], self._least))
        budget = self.options.bytes
        if budget is not None and smallest > budget:
            needed = smallest + 8  # the header has the budget, which has more digits then
            raise ConfigError(
                f"a budget of {budget:,} bytes is below the smallest file of these"
                f" {len(self.tiles):,} images, {needed:,} bytes ({self.options.codec},"
                f" {self.form['size']} pixels on a side); raise it, or store them at a smaller size"
            )
        return smallest

    @property
    def _qualities(self) -> tuple[int | None, int | None]:
        """The worst and the best quality to choose from."""
        if self.options.quality is not None:
            return self.options.quality, self.options.quality
        return QUALITIES.get(self.options.codec, (None, None))

    @property
    def _least(self) -> int:
        """The fewest components to choose from."""
        return self.components if self.options.components else min(1, self.components)


def _prepared_targets(
    targets: Tensor,
    options: Compression,
    num_classes: int,
    basis: TargetBasis | None,
    in_basis: bool,
) -> tuple[Tensor, TargetBasis | None, str]:
    """Return what is stored of targets, the basis of it, and the name of its form."""
    targets = targets.detach().cpu()
    if targets.dim() == 1:
        if options.targets or options.components:
            raise ConfigError("class labels are stored as whole numbers; give no form of targets")
        kinds = {2**8: torch.uint8, 2**15: torch.int16}  # torch cannot pickle uint16
        kind = next((k for most, k in kinds.items() if num_classes <= most), torch.int64)
        return targets.to(kind), None, "labels"
    form = options.targets or ("float16" if num_classes else "int8")
    if form == "int8" and num_classes:
        raise ConfigError("soft labels are stored as float16 or float32, not as int8 codes")
    if options.components and form != "int8":
        raise ConfigError(f"components are a choice of int8 targets, not of {form}; leave them out")
    if form != "int8":
        kept = targets.to(getattr(torch, form))
        if not bool(kept.isfinite().all()):
            raise ConfigError(f"the targets have values beyond the range of {form}; use float32")
        return kept, basis if in_basis else None, form
    if not in_basis:
        basis = basis or TargetBasis.principal(targets, options.components or MOST_COMPONENTS)
        if len(basis.mean) != targets.shape[1]:
            raise ConfigError(
                f"the basis is of {len(basis.mean)} numbers, the targets have {targets.shape[1]}"
            )
        targets = basis.project(targets)
    if (options.components or 0) > targets.shape[1]:
        raise ConfigError(
            f"{options.components} components: these targets have at most {targets.shape[1]}"
        )
    return targets[:, : options.components or MOST_COMPONENTS], basis, form


def _largest(low: int, high: int, fits: Callable[[int], bool]) -> int:
    """Find the largest number that fits by bisection; the lowest is known to fit."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
