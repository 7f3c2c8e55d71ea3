"""Files of torch.save: what is read, and what is refused before anything runs or is allocated."""

import io
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from third_party_formats import write_res

from datastill.convert.torch_file import in_memory, read_torch
from datastill.core.errors import ArtefactError


class Evil:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def repacked(
    path: Path, change: Callable[[str, bytes], bytes], *, method: int = zipfile.ZIP_STORED
) -> Path:
    """The same archive with its members changed."""
    changed = path.with_name("changed.pt")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(changed, "w", method) as new:
        for member in old.infolist():
            new.writestr(member.filename, change(member.filename, old.read(member)))
    return changed


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "tensor.pt"
    torch.save(torch.arange(1000.0).reshape(10, 100), path)
    return path


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_read_torch__numpy_numbers_of_any_version_are_dropped(
    tmp_path: Path, module: bytes
) -> None:
    def renamed(name: str, content: bytes) -> bytes:
        old = np.float64.__reduce__(np.float64(0))[0].__module__.encode()
        return content.replace(old + b"\n", module + b"\n") if name.endswith(".pkl") else content

    read = read_torch(repacked(write_res(tmp_path), renamed))
    assert read["data"][0][0].shape == (4, 3, 8, 8)
    assert not isinstance(read["accs_all_exps"]["ConvNet"][0], float)


def test_read_torch__tensors_of_a_gpu_come_to_the_cpu(saved: Path) -> None:
    def moved(name: str, content: bytes) -> bytes:
        loaded = content.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
        assert loaded != content or not name.endswith("data.pkl")
        return loaded

    path = repacked(saved, moved)
    assert torch.equal(in_memory(read_torch(path), path), torch.load(saved, weights_only=True))


@pytest.mark.parametrize("protocol", [None, 2, 4])  # None: a bare pickle
def test_read_torch__code_in_a_file_does_not_run(tmp_path: Path, protocol: int | None) -> None:
    path, folder = tmp_path / "evil.pt", tmp_path / "made"
    if protocol is None:
        path.write_bytes(pickle.dumps(Evil(folder)))
    else:
        torch.save([torch.ones(2), Evil(folder)], path, pickle_protocol=protocol)
    refusal = r"holds more than tensors \((nt|posix)\.mkdir\)|is damaged, or no file of tensors"
    with pytest.raises(ArtefactError, match=rf"evil\.pt ({refusal}).*save the tensors alone"):
        read_torch(path)
    assert not folder.exists()
    # the code is there, and would have run
    pickle.loads(path.read_bytes()) if protocol is None else torch.load(path, weights_only=False)
    assert folder.exists()


ENCODE = b"c_codecs\nencode\n"
LATIN1_THEN_HEX = b"X\x01\x00\x00\x00AX\x06\x00\x00\x00latin1\x86RX\x03\x00\x00\x00hex\x86R."
BOMBS = {
    "encodes texts by hex, which": b"\x80\x02" + 2 * ENCODE + LATIN1_THEN_HEX,
    "holds a bytearray, which": b"\x80\x02c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
}


@pytest.mark.parametrize("message", BOMBS)
def test_read_torch__small_pickles_that_fill_the_memory_are_refused(
    saved: Path, message: str
) -> None:
    bomb = repacked(
        saved, lambda name, content: BOMBS[message] if name.endswith("data.pkl") else content
    )
    with pytest.raises(ArtefactError, match=message):
        read_torch(bomb)


def test_read_torch__tensors_larger_than_their_bytes_are_refused(saved: Path) -> None:
    unchanged = repacked(saved, lambda _, content: content)
    assert read_torch(unchanged).shape == (10, 100)

    def grown(name: str, content: bytes) -> bytes:
        """A storage of two billion values, and a tensor of 65,535 rows in it."""
        if not name.endswith("data.pkl"):
            return content
        assert b"M\xe8\x03" in content and b"K\nKd" in content
        more = content.replace(b"M\xe8\x03", b"J\x00\x00\x00\x7f")
        return more.replace(b"K\nKd", b"M\xff\xffKd")

    larger = repacked(saved, grown)
    with pytest.raises(
        ArtefactError, match=r"changed\.pt is damaged, or no file of tensors .*storage"
    ):
        read_torch(larger)


def test_in_memory__values_repeated_by_strides_are_not_allocated(tmp_path: Path) -> None:
    path = tmp_path / "wide.pt"
    torch.save(torch.zeros(1).expand(10**6, 3, 224, 224), path)
    with pytest.raises(ArtefactError, match="claims more values than the file holds"):
        in_memory(read_torch(path), path)


def test_read_torch__other_files_are_named(saved: Path) -> None:
    bad = saved.with_name("bad.pt")
    with pytest.raises(ArtefactError, match=r"no file .*bad\.pt"):
        read_torch(bad)
    old, compressed = io.BytesIO(), repacked(saved, lambda _, x: x, method=zipfile.ZIP_DEFLATED)
    torch.save(torch.ones(3), old, _use_new_zipfile_serialization=False)
    others = (old.getvalue(), compressed.read_bytes(), b"", b"no tensors here", b"PK\x03\x04")
    for content in others:
        bad.write_bytes(content)
        message = r"bad\.pt is damaged, or no file of tensors .*PyTorch 1\.6 or later wrote: .*save"
        with pytest.raises(ArtefactError, match=message):
            read_torch(bad)


def test_read_torch__damage_is_an_error_or_harmless(tmp_path: Path) -> None:
    good = write_res(tmp_path)
    content, rng = good.read_bytes(), random.Random(0)
    images = in_memory(read_torch(good)["data"][0][0], good)
    bad, refused = tmp_path / "bad.pt", 0
    for trial in range(300):
        changed = bytearray(content)
        if trial % 3:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        else:
            changed = changed[: rng.randrange(len(changed))]
        bad.write_bytes(changed)
        try:
            assert torch.equal(in_memory(read_torch(bad)["data"][0][0], bad), images)
        except ArtefactError:
            refused += 1
    assert refused > 200
