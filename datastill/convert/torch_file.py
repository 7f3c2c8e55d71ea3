"""Files of `torch.save`, read without trusting them; the only place where torch.load is called.

The archive must be undamaged and uncompressed. Then `torch.load(weights_only=True)` reads it: it
runs nothing but its own list of harmless constructors, beside which NumPy numbers (such as measured
accuracies) are allowed and ignored. Tensors are mapped from the disk, so that none can be larger
than the file.
"""

import codecs
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datastill.core.errors import ArtefactError

IGNORED = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype")


class _IgnoredGlobal:
    """Placeholder for a NumPy number in a file; ignores its arguments."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


def read_torch(path: Path) -> Any:
    """Read tensors in lists, tuples and dicts, as `torch.save` wrote them; they stay on the disk.

    Raises:
        ArtefactError: no such file, damaged, of another kind, or it holds more than tensors.
    """
    if not path.is_file():
        raise ArtefactError(f"there is no file {path}")
    try:
        _check_archive(path)
        with torch.serialization.safe_globals([(_IgnoredGlobal, name) for name in IGNORED]):
            unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            if not unsafe:
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # damaged files raise errors of many kinds
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ArtefactError(
            f"{path} is damaged, or no file of tensors that torch.save of PyTorch 1.6 or later"
            f" wrote: {reason}; fetch it again, or load it where it was written and save the"
            " tensors alone"
        ) from error
    raise ArtefactError(
        f"{path} holds more than tensors ({', '.join(sorted(unsafe)[:3])}), which is not read"
        " because code could run; load it where it was written, and save the tensors alone"
    )


def in_memory(tensor: Tensor, path: Path) -> Tensor:
    """Copy a tensor of a file into memory: plain, contiguous and without gradients.

    Raises:
        ArtefactError: it has more values than the file has bytes for (repeated by strides).
    """
    plain = tensor.layout == torch.strided and not tensor.is_quantized
    if not plain or tensor.numel() * tensor.element_size() > path.stat().st_size:
        raise ArtefactError(
            f"{path}: a tensor {tuple(tensor.shape)} claims more values than the file holds;"
            " load it where it was written, and save tensor.clone()"
        )
    return tensor.detach().clone(memory_format=torch.contiguous_format).as_subclass(Tensor)


def _check_archive(path: Path) -> None:
    """Refuse an archive that is damaged, or whose pickle could grow in memory."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        # torch ignores the case of this name
        pickles = [m for m in members if m.filename.lower().endswith("/data.pkl")]
        if len(pickles) != 1 or any(m.compress_type != zipfile.ZIP_STORED for m in members):
            raise zipfile.BadZipFile("it is a zip file of another program")
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"{damaged} has changed since it was written")
        content = archive.read(pickles[0])
    if b"bytearray" in content:  # torch allows it with a size alone, such as 40 GB
        raise zipfile.BadZipFile("it holds a bytearray, which no set of tensors needs")
    if b"_codecs\nencode\n" not in content:
        return
    # torch allows _codecs.encode; repeated, most codecs let a small file fill the memory
    for _, argument, _ in pickletools.genops(content):
        if isinstance(argument, str) and _is_growing_codec(argument):
            raise zipfile.BadZipFile(f"it encodes texts by {argument}, which torch.save does not")


def _is_growing_codec(name: str) -> bool:
    try:
        return codecs.lookup(name).name != "iso8859-1"
    except (LookupError, ValueError):
        return False
