"""Damaged files: each flipped bit and each truncation is found; mutated files do no harm."""

import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
import torch
from archives import write_archive
from factories import toy_images, toy_set, toy_target
from reliability import Figures

from datastill.core import checkpoint
from datastill.core.errors import DatastillError
from datastill.data.check import prepare
from datastill.data.cifar100 import Cifar100
from datastill.distilled_set import DistilledSet
from datastill.target_model import TargetModel

MEGABYTE = 2**20
SECONDS = 5.0  # that no load of a small file may take


@dataclass(frozen=True)
class Kept:
    """Files that are read again, and what reading them gives."""

    name: str
    files: tuple[Path, ...]
    read: Callable[[], str]  # a fingerprint of everything that was read


@dataclass
class State:
    numbers: torch.Tensor
    step: int


def artefact(folder: Path) -> Kept:
    toy_set().save(folder / "distilled.safetensors")
    file = folder / "distilled.safetensors"
    return Kept("artefact", (file,), lambda: DistilledSet.load(file).fingerprint)


def coded_artefact(folder: Path) -> Kept:
    file = folder / "distilled.safetensors"
    toy_set().compress(codec="webp", quality=50).save(file)
    return Kept("coded artefact", (file,), lambda: DistilledSet.load(file).fingerprint)


def target_model(folder: Path) -> Kept:
    file = toy_target(toy_images()).save(folder)
    return Kept("target model", (file,), lambda: TargetModel.load(file).fingerprint)


def saved_state(folder: Path) -> Kept:
    file = folder / "checkpoint.safetensors"
    checkpoint.write(file, State(torch.arange(50.0), 3), {"seed": 0})

    def read() -> str:
        state = State(torch.zeros(50), 0)
        checkpoint.read(file, state, {"seed": 0})
        return repr((state.numbers.tolist(), state.step))

    return Kept("checkpoint", (file,), read)


def prepared_data(folder: Path) -> Kept:
    source = Cifar100()
    write_archive("cifar100", folder / "official")
    prepare(source, 8, folder / "official")
    place = source.prepared("train", 8).folder
    files = tuple(place / f"train.{end}" for end in ("images.npy", "labels.npy", "json"))

    def read() -> str:
        images = source.load("train", 8, folder / "official")
        return f"{images.fingerprint} {images.normalizer.statistics}"

    return Kept("prepared data", files, read)


KINDS = (artefact, coded_artefact, target_model, saved_state, prepared_data)


@pytest.fixture(params=KINDS, ids=lambda make: make.__name__)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    made: Kept = request.param(tmp_path)
    return made


def flipped(content: bytes, random: Random) -> bytes:
    damaged = bytearray(content)
    damaged[random.randrange(len(content))] ^= 1 << random.randrange(8)
    return bytes(damaged)


def truncated(content: bytes, random: Random) -> bytes:
    return content[: random.randrange(len(content))]


def mutated(content: bytes, random: Random) -> bytes:
    """Some of: bytes overwritten, moved, doubled, cut out; another header length; other digits."""
    damaged = bytearray(content)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(damaged) - 8) if random.random() < 0.5 else random.randrange(400)
        match random.randrange(6):
            case 0:
                damaged[at : at + 8] = random.randbytes(8)
            case 1:
                damaged[at:at] = damaged[at : at + random.randrange(64)]
            case 2:
                del damaged[at : at + random.randrange(1, 32)]
            case 3:
                damaged[:8] = random.choice((0, 7, len(content), 2**31, 2**62)).to_bytes(
                    8, "little"
                )
            case 4:
                other = random.choice((b"-1", b"9" * 18, b"[", b'"'))
                damaged = damaged.replace(b"0", other, 1)
            case _:
                damaged = damaged[: max(500, at)]
    return bytes(damaged)


@pytest.mark.parametrize("times", [40, pytest.param(2000, marks=pytest.mark.torture)])
@pytest.mark.parametrize("damage", [flipped, truncated])
def test_damage__is_found_and_the_file_is_named(
    kept: Kept, damage: Callable[[bytes, Random], bytes], times: int, figures: Figures
) -> None:
    whole, random = kept.read(), Random(0)
    refused = remade = 0
    contents = {file: file.read_bytes() for file in kept.files}
    for _ in range(times):
        file = random.choices(kept.files, [len(content) for content in contents.values()])[0]
        file.write_bytes(damage(contents[file], random))
        try:
            assert kept.read() == whole, f"{file} was read as if it were whole"
            assert kept.name == "prepared data"
            remade += 1  # without a whole manifest, from the archive
        except DatastillError as error:
            assert str(file) in str(error)
            refused += 1
        for known, content in contents.items():
            known.write_bytes(content)
    assert refused + remade == times
    figures.add(f"{kept.name}, {damage.__name__}", f"{refused} of {times} refused, {remade} remade")


@pytest.mark.parametrize("make", [artefact, coded_artefact, target_model, saved_state])
@pytest.mark.parametrize("times", [100, pytest.param(3500, marks=pytest.mark.torture)])
def test_damage__of_any_kind_ends_in_our_error(
    make: Callable[[Path], Kept], tmp_path: Path, times: int, figures: Figures
) -> None:
    kept, random = make(tmp_path), Random(1)
    (file,), whole = kept.files, kept.read()
    content, refused, slowest, largest = file.read_bytes(), 0, 0.0, 0
    tracemalloc.start()
    for _ in range(times):
        file.write_bytes(mutated(content, random))
        tracemalloc.reset_peak()
        before, started = tracemalloc.get_traced_memory()[0], time.monotonic()
        try:
            assert kept.read() == whole
        except DatastillError:
            refused += 1
        slowest = max(slowest, time.monotonic() - started)
        largest = max(largest, tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    assert slowest < SECONDS and largest < MEGABYTE + 20 * len(content)
    found = f"{refused} of {times} refused, the others read as they were; {largest / 1e6:.1f} MB"
    figures.add(f"{kept.name}, mutated", f"{found} at most")
