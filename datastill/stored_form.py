"""The stored form of a distilled set: images in one mosaic by a standard codec, targets as codes.

`DistilledSet.compress` and `load` use it; docs/artefact.md describes the file.
"""

import hashlib
import io
import math
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image, features
from torch import Tensor

from datastill.core.errors import ArtefactError, ConfigError, DataWarning
from datastill.core.options import Json, check_bounds, option
from datastill.core.tensor_file import digest, read_checked, write_checked

Codec = Literal["avif", "webp", "jpeg", "png", "raw"]
TargetForm = Literal["int8", "float16", "float32"]
Bytes = NDArray[np.uint8]

QUALITIES = {"avif": (0, 100), "webp": (0, 100), "jpeg": (1, 95)}  # worst and best
SAVE_OPTIONS: dict[str, Json] = {
    # The bytes depend on the number of threads. At one PSNR, small images with colours at full
    # resolution take fewer bytes: 6 % of AVIF, 10 % of JPEG.
    "avif": {"max_threads": 1, "subsampling": "4:4:4"},
    "webp": {"method": 6},
    "jpeg": {"optimize": True, "progressive": True, "subsampling": "4:4:4"},
    "png": {"optimize": True},
}
LIBRARIES = {"avif": "avif", "webp": "webp", "jpeg": "libjpeg_turbo", "png": "zlib"}  # of Pillow
SHRINK, ENLARGE = Image.Resampling.LANCZOS, Image.Resampling.BICUBIC
LARGEST_MOSAIC = 80_000_000  # pixels; Pillow warns of more than 89 million
MOST_COMPONENTS = 64  # that are chosen where none are given
BASIS_FORMAT, BASIS_VERSION = "datastill.target-basis", 1
DAMAGED = (OSError, RuntimeError, SyntaxError, ValueError, EOFError, IndexError, struct.error)


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
class TargetBasis:
    """Where the coordinates of targets come from: (g - mean) @ basis of a target model's output g.

    Args:
        mean: (dim,) float32.
        basis: (dim, D) float32, usually principal axes.

    Example:
        >>> TargetBasis(torch.zeros(3), torch.eye(3)[:, :2]).project(torch.tensor([[1.0, 2, 3]]))
        tensor([[1., 2.]])
    """

    mean: Tensor
    basis: Tensor

    def __post_init__(self) -> None:
        if self.basis.dim() != 2 or self.mean.shape != self.basis.shape[:1]:
            shapes = f"mean {tuple(self.mean.shape)}, basis {tuple(self.basis.shape)}"
            raise ArtefactError(f"a basis of targets needs (dim,) and (dim, D); got {shapes}")

    def project(self, outputs: Tensor) -> Tensor:  # (N, dim) -> (N, D)
        """Return the coordinates of a target model's outputs."""
        return (outputs - self.mean.to(outputs)) @ self.basis.to(outputs)

    def first(self, components: int) -> "TargetBasis":
        """Return the basis of the first coordinates."""
        return TargetBasis(self.mean, self.basis[:, :components])

    @property
    def fingerprint(self) -> str:
        """The first 16 digits of the SHA-256 of both tensors."""
        return digest({"mean": self.mean, "basis": self.basis}, {})[:16]

    @staticmethod
    def principal(targets: Tensor) -> "TargetBasis":
        """Fit the principal axes of targets (M, D), in the order of their variance."""
        exact = targets.double()
        mean = exact.mean(0)
        axes = torch.linalg.svd(exact - mean, full_matrices=False).Vh
        return TargetBasis(mean.float(), axes.T.float().contiguous())

    @staticmethod
    def path(file: Path) -> Path:
        """Return the file of the basis that lies beside the file of a set."""
        return file.with_name(f"{file.stem}.basis.safetensors")

    def save(self, file: Path) -> None:
        """Write the basis beside the file of a set."""
        header = {"format": BASIS_FORMAT, "format_version": str(BASIS_VERSION)}
        write_checked(self.path(file), {"mean": self.mean, "basis": self.basis}, header)

    @staticmethod
    def load(file: Path, fingerprint: str) -> "TargetBasis | None":
        """Read the basis beside the file of a set; None where there is none.

        Raises:
            ArtefactError: It is damaged, or of another set.
        """
        path = TargetBasis.path(file)
        if not path.is_file():
            return None
        tensors, _ = read_checked(path, BASIS_FORMAT, BASIS_VERSION)
        if not {"mean", "basis"} <= tensors.keys():
            raise ArtefactError(f"{path} lacks a mean or a basis; fetch it again, or remove it")
        basis = TargetBasis(tensors["mean"], tensors["basis"])
        if basis.fingerprint != fingerprint:
            raise ArtefactError(
                f"{path} is the basis of another set than {file.name}; fetch it again, or remove it"
            )
        return basis


@dataclass(frozen=True, eq=False)
class Stored:
    """The encoded images and targets of a set, as its file has them.

    Args:
        mosaic: uint8: a picture file (bytes,), or the pixels (M, C, S', S') where raw.
        targets: (M, D) int8 codes, float16 or float32; or class labels (M,).
        scale: (D,) float32: what a code of 1 means. Only with codes.
        form: Codec, size, checksum and the like: `provenance["stored"]`.
        basis: Of the targets' coordinates; it is kept in a file of its own.
    """

    mosaic: Tensor
    targets: Tensor
    scale: Tensor | None
    form: Json
    basis: TargetBasis | None = None

    @staticmethod
    def read(file: Path, tensors: dict[str, Tensor], form: Json) -> "Stored":
        """Take the tensors of a file, and the basis beside it where there is one."""
        basis = TargetBasis.load(file, form["basis"]) if "basis" in form else None
        return Stored(tensors["mosaic"], tensors["targets"], tensors.get("scale"), form, basis)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors of the file."""
        scale = {} if self.scale is None else {"scale": self.scale}
        return {"mosaic": self.mosaic, "targets": self.targets, **scale}

    def decoded_images(self, channels: int, image_size: int) -> Tensor:  # (M, C, S, S)
        """Decode the images, enlarge them to `image_size`, and return unit pixels.

        Warns where this decoder gives other pixels than the one that stored them.

        Raises:
            ArtefactError: The mosaic is damaged, too large, or not of M such images.
        """
        codec, size = self.form["codec"], self.form["size"]
        tiles = _decoded(self.mosaic, codec, (len(self.targets), channels, size), image_size)
        if _checksum(tiles) != self.form["pixels"]:
            warnings.warn(
                f"the images were stored with {self.form['decoder']} and are decoded by"
                f" {decoder(codec)}, which gives slightly other pixels",
                DataWarning,
                stacklevel=2,
            )
        return torch.from_numpy(_resized(tiles, image_size, ENLARGE)).float() / 255

    def decoded_targets(self) -> Tensor:  # (M, D) float32, or (M,) int64
        """Return the targets that the codes stand for.

        Raises:
            ArtefactError: There are codes without their scale.
        """
        if self.targets.dim() == 1:
            return self.targets.long()
        if self.targets.dtype == torch.int8:
            if self.scale is None or self.scale.shape != self.targets.shape[1:]:
                raise ArtefactError(
                    "the targets are codes without their scale; fetch the file again"
                )
            return self.targets.float() * self.scale
        return self.targets.float()


@dataclass(frozen=True, eq=False)
class Encoder:
    """Encodes one set with any quality and number of components.

    Args:
        tiles: uint8 (M, C, S', S').
        targets: What is stored of the targets: labels, or numbers (M, D).
        basis: Of the numbers, where they are coordinates.
        options: What was asked for.
        form: What is the same in all stored forms of the set.
    """

    tiles: Bytes
    targets: Tensor
    basis: TargetBasis | None
    options: Compression
    form: Json
    mosaics: dict[int | None, tuple[Tensor, str]] = field(default_factory=dict)  # by quality

    @staticmethod
    def make(
        unit_pixels: Tensor,
        targets: Tensor,
        options: Compression,
        *,
        num_classes: int,
        basis: TargetBasis | None,
        in_basis: bool,
    ) -> "Encoder":
        """Prepare images and targets.

        Args:
            unit_pixels: (M, C, S, S).
            targets: (M, D), or class labels (M,).
            options: What was asked for.
            num_classes: K of soft labels or class labels, 0 where targets are representations.
            basis: Of the targets; None: their own principal axes.
            in_basis: Whether the targets are coordinates in a basis already.

        Raises:
            ConfigError: The options do not fit the set.
        """
        levels = (unit_pixels.detach().cpu() * 255).round()
        size = options.stored_size or levels.shape[2]
        _check_images(options, len(levels), levels.shape[1], size, levels.shape[2])
        tiles = _resized(levels.clamp(0, 255).byte().numpy(), size, SHRINK)
        targets, basis, form = _prepared_targets(targets, options, num_classes, basis, in_basis)
        clipped = int(((levels < 0) | (levels > 255)).sum())
        known = {"codec": options.codec, "size": size, "targets": form, "clipped": clipped}
        if in_basis or form == "int8":
            known["components"] = targets.shape[1]
        return Encoder(tiles, targets, basis, options, known)

    @property
    def components(self) -> int:
        """The number of coordinates to choose from; 0 where the targets are none."""
        return 0 if self.form["targets"] != "int8" else int(self.targets.shape[1])

    def encode(self, quality: int | None, components: int) -> Stored:
        """Return the set with the pixels at a quality, and the first `components` of its codes."""
        if quality not in self.mosaics:
            self.mosaics[quality] = _encoded(self.tiles, self.options.codec, quality)
        mosaic, checksum = self.mosaics[quality]
        targets, scale, form = self.targets, None, dict(self.form)
        if components:
            targets = targets[:, :components]
            scale = targets.abs().amax(0).clamp_min(1e-30) / 127
            targets = (targets / scale).round().to(torch.int8)
            form["components"] = components
        basis = None if self.basis is None else self.basis.first(targets.shape[1])
        form |= {"pixels": checksum, "decoder": decoder(self.options.codec)}
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
        options, most = self.options, self.components
        low, high = QUALITIES.get(options.codec, (None, None))
        if options.quality is not None:
            low = high = options.quality
        if options.bytes is None:
            return self.encode(low, most)
        least, budget = most if options.components else min(1, most), options.bytes
        smallest = size_of(self.encode(low, least))
        if smallest > budget:
            needed = smallest + 8  # the header has the budget, which has more digits then
            raise ConfigError(
                f"a budget of {budget:,} bytes is below the smallest file of these"
                f" {len(self.tiles):,} images, {needed:,} bytes ({options.codec},"
                f" {self.form['size']} pixels on a side); raise it, or store them at a smaller size"
            )
        for_codes = budget if low == high else (budget + smallest) // 2
        count = _largest(least, most, lambda d: size_of(self.encode(low, d)) <= for_codes)
        if low is None or high is None:
            return self.encode(None, count)
        best = _largest(low, high, lambda q: size_of(self.encode(q, count)) <= budget)
        count = _largest(count, most, lambda d: size_of(self.encode(best, d)) <= budget)
        return self.encode(best, count)


def asked_for(form: Json) -> str:
    """Describe a stored form without what differs between sets of one budget.

    Example:
        >>> asked_for({"codec": "avif", "size": 32, "targets": "int8", "quality": 45})
        'avif, quality 45, 32 pixels, int8'
    """
    asked = [f"{form['budget']} bytes"] if "budget" in form else []
    if not asked:
        names = ("quality", "components")
        asked = [f"{name} {form[name]}" for name in names if name in form]
    return ", ".join([form["codec"], *asked, f"{form['size']} pixels", form["targets"]])


def decoder(codec: str) -> str:
    """Name the version of Pillow and of its library for a codec."""
    library = LIBRARIES.get(codec)
    return f"Pillow {PIL.__version__}" + (
        f", {codec} {features.version(library)}" if library else ""
    )


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
        kinds = {2**8: torch.uint8, 2**16: torch.uint16}
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
        basis = basis or TargetBasis.principal(targets)
        targets = basis.project(targets)
    if (options.components or 0) > targets.shape[1]:
        raise ConfigError(
            f"{options.components} components: these targets have at most {targets.shape[1]}"
        )
    return targets[:, : options.components or MOST_COMPONENTS], basis, form


def _check_images(options: Compression, count: int, channels: int, size: int, image: int) -> None:
    if size > image:
        raise ConfigError(f"stored size {size}: the images have {image} pixels on a side")
    if count * image * image > LARGEST_MOSAIC:
        raise ConfigError(
            f"{count:,} images of {image} x {image} are too many; a mosaic has at most"
            f" {LARGEST_MOSAIC:,} pixels"
        )
    if options.codec != "raw" and channels not in (1, 3):
        raise ConfigError(
            f"{options.codec} stores images of one or three channels, these have {channels};"
            " use the codec raw"
        )
    _check_codec(options.codec, ConfigError)


def _check_codec(codec: str, error: type[ArtefactError] | type[ConfigError]) -> None:
    Image.init()
    if codec not in get_args(Codec):
        raise error(f"there is no codec {codec!r}; there are {', '.join(get_args(Codec))}")
    if codec != "raw" and codec.upper() not in Image.SAVE:
        raise error(f"Pillow {PIL.__version__} lacks {codec}; update Pillow")


def _encoded(tiles: Bytes, codec: str, quality: int | None) -> tuple[Tensor, str]:
    """Return the mosaic of images at a quality, and the checksum of its pixels."""
    if codec == "raw":
        return torch.from_numpy(tiles), _checksum(tiles)
    count, channels, size = tiles.shape[:3]
    columns, rows = _grid(count)
    padded = np.zeros((rows * columns, *tiles.shape[1:]), np.uint8)
    padded[:count] = tiles
    grid = padded.reshape(rows, columns, channels, size, size).transpose(0, 3, 1, 4, 2)
    canvas = grid.reshape(rows * size, columns * size, channels)
    picture, file = Image.fromarray(canvas[..., 0] if channels == 1 else canvas), io.BytesIO()
    chosen = {} if quality is None else {"quality": quality}
    picture.save(file, format=codec.upper(), **SAVE_OPTIONS[codec], **chosen)
    mosaic = torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)
    return mosaic, _checksum(_decoded(mosaic, codec, (count, channels, size), size))


def _decoded(mosaic: Tensor, codec: Any, shape: tuple[int, int, Any], image_size: int) -> Bytes:
    """Return the images (M, C, S', S') of a mosaic, after checks of its size."""
    count, channels, size = shape
    _check_codec(codec, ArtefactError)
    if not isinstance(size, int) or not 1 <= size <= image_size:
        raise ArtefactError(f"the images are stored at size {size!r}, expected 1 to {image_size}")
    if count * image_size**2 > LARGEST_MOSAIC:
        raise ArtefactError(
            f"{count:,} images of {image_size} x {image_size} are more than the"
            f" {LARGEST_MOSAIC:,} pixels that a mosaic may have"
        )
    if codec == "raw":
        if mosaic.shape != (count, channels, size, size) or mosaic.dtype != torch.uint8:
            raise ArtefactError(f"the mosaic has shape {tuple(mosaic.shape)}, not that of {shape}")
        return mosaic.numpy()
    columns, rows = _grid(count)
    try:
        picture = Image.open(io.BytesIO(mosaic.numpy().tobytes()), formats=[codec.upper()])
        if picture.size != (columns * size, rows * size) or picture.mode not in ("L", "RGB"):
            raise ArtefactError(
                f"the mosaic is {picture.mode} of {picture.width} x {picture.height} pixels,"
                f" expected {columns * size} x {rows * size} for {count} images"
            )
        canvas = np.array(picture.convert("L" if channels == 1 else "RGB"))
    except (*DAMAGED, Image.DecompressionBombError) as error:
        raise ArtefactError(f"the mosaic is damaged ({error}); fetch the file again") from error
    grid = canvas.reshape(rows, size, columns, size, channels).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(grid.reshape(-1, channels, size, size)[:count])


def _grid(count: int) -> tuple[int, int]:
    """Return columns and rows of a mosaic."""
    columns = math.isqrt(count - 1) + 1 if count else 1
    return columns, -(-count // columns)


def _resized(tiles: Bytes, size: int, resampling: Image.Resampling) -> Bytes:
    """Resize images (M, C, S, S); each channel is a grey picture."""
    if tiles.shape[2] == size:
        return tiles
    planes = (Image.fromarray(plane) for plane in tiles.reshape(-1, *tiles.shape[2:]))
    resized = np.stack([np.asarray(plane.resize((size, size), resampling)) for plane in planes])
    return resized.reshape(*tiles.shape[:2], size, size)


def _checksum(tiles: Bytes) -> str:
    return hashlib.sha256(np.ascontiguousarray(tiles).tobytes()).hexdigest()


def _largest(low: int, high: int, fits: Callable[[int], bool]) -> int:
    """Find the largest number that fits by bisection; the lowest is known to fit."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
