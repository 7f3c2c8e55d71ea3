"""The safetensors files of datastill: format, version and SHA-256 are checked on reading."""

import base64
import hashlib
import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from datastill.core.atomic import atomic_write
from datastill.core.errors import ArtefactError

FORMATS = {
    "datastill.distilled": "a distilled set",
    "datastill.target-model": "a target model",
    "datastill.network": "a pre-trained network",
    "datastill.checkpoint": "a checkpoint",
    "datastill.expert": "an expert's trajectory",
    "datastill.target-basis": "the basis of a distilled set's targets",
}
COMPRESSED = ".zlib"  # ends the keys of metadata that are compressed and in base64
LARGEST_TEXT = 2**24  # bytes of such a text
DTYPES = {  # of distilled sets, in the order in which safetensors writes them
    **{torch.int64: "I64", torch.float32: "F32", torch.float16: "F16"},
    **{torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8"},
}


def read_checked(
    path: Path, expected_format: str, newest_version: int
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a file, and check its SHA-256.

    Raises:
        ArtefactError: There is no such file, or it is damaged, foreign, or from a newer version.
    """
    metadata, tensors = read_tensors(path)
    if (file_format := metadata.get("format", "")) != expected_format:
        actual, expected = (
            FORMATS.get(name, "a file of another program")
            for name in (file_format, expected_format)
        )
        raise ArtefactError(f"{path} is {actual}, where {expected} is needed")
    version = metadata.get("format_version", "")
    if not version.isdigit() or int(version) > newest_version:
        raise ArtefactError(
            f"{path} has format version {version}, this datastill reads up to {newest_version};"
            " update datastill"
        )
    stored = metadata.pop("sha256", "absent")
    actual = digest(tensors, metadata)
    if actual != stored:
        raise ArtefactError(
            f"{path} is damaged: its contents have SHA-256 {actual[:16]}..., the file says"
            f" {stored[:16]}...; fetch or make it again"
        )
    return tensors, metadata


def format_of(path: Path) -> str:
    """Read which format of datastill a safetensors file has; "" where it has none.

    Raises:
        ArtefactError: There is no such file, or it is damaged.
    """
    return read_tensors(path)[0].get("format", "")


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read the metadata and the tensors of any safetensors file.

    Raises:
        ArtefactError: There is no such file, or it is damaged.
    """
    if not path.is_file():
        raise ArtefactError(f"there is no file {path}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        for key in [key for key in metadata if key.endswith(COMPRESSED)]:
            metadata[key.removesuffix(COMPRESSED)] = _decompressed(metadata.pop(key))
    except (safetensors.SafetensorError, OSError, ValueError, zlib.error) as error:
        raise ArtefactError(f"{path} is damaged or no safetensors file: {error}") from error
    return metadata, tensors


def write_checked(
    path: Path,
    tensors: dict[str, Tensor],
    metadata: dict[str, str],
    *,
    compressed: Sequence[str] = (),
) -> None:
    """Write tensors and metadata (which contains the format) with their SHA-256, atomically.

    Values of the keys in `compressed` are stored in fewer bytes; the SHA-256 is that of the text.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {**metadata, "sha256": digest(tensors, metadata)}
    content = safetensors.torch.save(tensors, _shortened(metadata, compressed))
    with atomic_write(path) as part, part.open("wb") as file:
        file.write(_sorted_header(content))
        file.write(memoryview(content)[file.tell() :])


def file_size(
    tensors: dict[str, Tensor], metadata: dict[str, str], *, compressed: Sequence[str] = ()
) -> int:
    """Return the bytes of the file that `write_checked` would write, without copying a tensor."""
    header: dict[str, object] = {
        "__metadata__": _shortened({**metadata, "sha256": "0" * 64}, compressed)
    }
    end, order = 0, list(DTYPES)
    for name, tensor in sorted(tensors.items(), key=lambda x: (order.index(x[1].dtype), x[0])):
        start, end = end, end + tensor.nbytes
        offsets, shape = [start, end], list(tensor.shape)
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": shape, "data_offsets": offsets}
    length = len(json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode())
    return 8 + -(-length // 8) * 8 + end


def _shortened(metadata: dict[str, str], compressed: Sequence[str]) -> dict[str, str]:
    shorter = {key + COMPRESSED: _compressed(metadata[key]) for key in compressed}
    return {k: v for k, v in metadata.items() if k not in compressed} | shorter


def _compressed(text: str) -> str:
    return base64.b64encode(zlib.compress(text.encode(), level=9)).decode()


def _decompressed(text: str) -> str:
    """Return the text; one of more than `LARGEST_TEXT` bytes, or a damaged one, is a ValueError."""
    stream = zlib.decompressobj()
    content = stream.decompress(base64.b64decode(text, validate=True), LARGEST_TEXT)
    if not stream.eof:
        raise ValueError("its metadata are cut short, or too long")
    return content.decode()


def _sorted_header(content: bytes) -> bytes:
    """Return the header with sorted keys, so that files of equal contents are equal."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    ordered = json.dumps(header, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    padded = ordered.encode().ljust(length)
    assert len(padded) == length, "the same header, written by Python, has become longer"
    return content[:8] + padded


def digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """Return the SHA-256 of names, types, shapes and bytes of tensors, and of the metadata."""
    running = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        running.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        running.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return running.hexdigest()
