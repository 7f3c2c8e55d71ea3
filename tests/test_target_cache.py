"""The cache of target representations: the same bits whatever it holds, and never a stale one."""

import multiprocessing
import random
import resource
import time
from collections import Counter
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from factories import NETWORK, equal, toy_images, toy_network, toy_problem, toy_target
from reliability import Figures
from torch import Tensor, nn

from datastill import target_cache
from datastill.augment.crop_flip import CropFlip
from datastill.core.errors import DataError, NotFiniteError
from datastill.core.machine import Machine
from datastill.core.rng import fork
from datastill.core.run_folder import RunFolder
from datastill.distill import distill
from datastill.methods.krr_st import KRRST
from datastill.target_cache import CacheMode, StoredPrecision, TargetCache
from datastill.target_model import TargetModel

VIEWS = CropFlip(1, flip=True)  # 18
IMAGES = toy_images()  # 24
PRECISIONS: tuple[StoredPrecision, ...] = ("float16", "float32")
every_precision = pytest.mark.parametrize("precision", PRECISIONS)


def a_cache(folder: Path | None = None, mode: CacheMode = "lazy", **changes: Any) -> TargetCache:
    """As a new process would make it."""
    given = {"target": toy_target(IMAGES), "images": IMAGES, "crop_flip": VIEWS, **changes}
    return TargetCache(**given, mode=mode, folder=folder)


def everything(cache: TargetCache) -> Tensor:
    """Every image under every view."""
    row = torch.arange(len(cache.is_cached))
    return cache(row // cache.crop_flip.views, row % cache.crop_flip.views)


def drawn(number: int, cache: TargetCache) -> tuple[Tensor, Tensor]:
    """A batch of random size, with repetitions."""
    generator = fork(0, "drawn", number)
    size = int(torch.randint(1, 100, (), generator=generator))
    index = torch.randint(len(cache.images), (size,), generator=generator)
    return index, cache.crop_flip.draw(size, generator)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[int, int]]:
    """In how many batches the target model saw each (image, view)."""
    counted: Counter[tuple[int, int]] = Counter()
    represent = TargetCache._represent

    def counting(self: TargetCache, index: Tensor, view: Tensor) -> Tensor:
        counted.update(set(zip(index.tolist(), view.tolist(), strict=True)))
        return represent(self, index, view)

    monkeypatch.setattr(TargetCache, "_represent", counting)
    return counted


@pytest.mark.parametrize("mode", ["lazy", "full"])
@pytest.mark.parametrize("crop_flip", [VIEWS, CropFlip(0, flip=False), CropFlip(2, flip=False)])
@pytest.mark.parametrize(("precision", "rounding"), [("float16", 2**-11), ("float32", 0)])
def test_target_cache__equals_the_target_model_within_its_precision(
    mode: CacheMode, crop_flip: CropFlip, precision: str, rounding: float
) -> None:
    off, cache = (a_cache(mode=m, crop_flip=crop_flip, precision=precision) for m in ("off", mode))
    for _ in range(2):
        expected, found = everything(off), everything(cache)
        assert found.dtype == torch.float32 and found.shape == (24 * crop_flip.views, 5)
        torch.testing.assert_close(found, expected, rtol=rounding + 1e-5, atol=1e-5)


def test_target_cache__that_is_off_is_the_target_model_bit_for_bit() -> None:
    cache = a_cache(mode="off")
    index, view = drawn(0, cache)
    seen = VIEWS(IMAGES.images[index], view).float() / 255
    target = toy_target(IMAGES)
    assert torch.equal(cache(index, view), target.represent(target.normalizer(seen)))


class CountsItsBatch(nn.Module):
    """An output that depends on the size of the batch, as last bits do here and there."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :5] + len(x)


BFLOAT16 = Machine(precision="bfloat16")
NETWORKS = [toy_network(outputs=37), CountsItsBatch()]


@every_precision
@pytest.mark.parametrize("machine", [Machine(), BFLOAT16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: type(network).__name__)
def test_target_cache__bits_depend_neither_on_batches_nor_on_what_is_cached(
    network: nn.Module, machine: Machine, precision: StoredPrecision, figures: Figures
) -> None:
    target, looked_up = TargetModel(network, IMAGES.normalizer, 8, machine=machine), 0
    of = {"target": target, "precision": precision}
    full = a_cache(mode="full", **of)
    small, nothing = (a_cache(max_gigabytes=g, **of) for g in (5e-6, 0.0))
    for number in range(6):
        batch = drawn(number, full) if number % 2 else tuple(x[:3] for x in drawn(number, full))
        expected = full(*batch)
        for cache in (a_cache(**of), small, nothing):
            assert torch.equal(cache(*batch), expected)
            looked_up += len(expected)
    assert 0 < small.is_cached.sum() < len(small.is_cached) and not nothing.is_cached.any()
    figures.add(
        f"{type(network).__name__} in {machine.precision}, kept in {precision}, in any batch",
        f"{looked_up} looked up: 0 differ in a bit",
    )


def test_target_cache__lazy_computes_each_view_once(computed: Counter[tuple[int, int]]) -> None:
    cache = a_cache()
    expected = [a_cache()(*drawn(number, cache)) for number in range(30)]
    computed.clear()
    found = [cache(*drawn(number, cache)) for number in range(30)]
    wanted = {tuple(p) for n in range(30) for p in torch.stack(drawn(n, cache), 1).tolist()}
    assert set(computed) == wanted and set(computed.values()) == {1}
    assert equal(found, expected)


def test_target_cache__full_computes_every_view_once_for_all_runs(
    computed: Counter[tuple[int, int]], tmp_path: Path
) -> None:
    for _ in range(2):
        cache = a_cache(tmp_path, "full")
        assert len(computed) == 24 * 18 and set(computed.values()) == {1}
        everything(cache)
    assert set(computed.values()) == {1}


def other_pixel() -> Any:
    pixels = IMAGES.images.clone()
    pixels[3, 0, 4, 4] += 1
    return replace(IMAGES, images=pixels)


def other_weight() -> TargetModel:
    target = toy_target(IMAGES)
    next(target.module.parameters()).view(-1)[0] += 0.5
    return target


STALE: dict[str, Any] = {
    "a pixel": lambda: {"images": other_pixel()},
    "the order of images": lambda: {"images": IMAGES.take(torch.arange(24).flip(0))},
    "a weight": lambda: {"target": other_weight()},
    "outputs": lambda: {"target": replace(toy_target(IMAGES), offset=torch.ones(5))},
    "normalizer": lambda: {
        "target": replace(toy_target(IMAGES), normalizer=toy_images(16).normalizer)
    },
    "architecture": lambda: {
        "target": replace(toy_target(IMAGES), architecture=replace(NETWORK, norm="none"))
    },
    "networks' precision": lambda: {"target": replace(toy_target(IMAGES), machine=BFLOAT16)},
    "padding": lambda: {"crop_flip": CropFlip(2, flip=True)},
    "flip": lambda: {"crop_flip": CropFlip(1, flip=False)},
    "stored precision": lambda: {"precision": "float32"},
    "room": lambda: {"max_gigabytes": 1e-6},
}


@pytest.mark.parametrize("what", STALE)
def test_target_cache__of_something_else_is_not_used(
    what: str, computed: Counter[tuple[int, int]], tmp_path: Path
) -> None:
    a_cache(tmp_path, "full")
    computed.clear()
    other = a_cache(tmp_path, "full", **STALE[what]())
    assert len(computed) == other.capacity
    assert torch.equal(everything(other), everything(a_cache(**STALE[what]())))
    assert len(list(tmp_path.glob("banks/*"))) == 2


@pytest.mark.parametrize("what", ["threads", "processor", "gpu"])
def test_target_cache__of_another_machine_is_not_used(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = a_cache().identity
    environment = target_cache.environment()
    monkeypatch.setattr(target_cache, "environment", lambda: {**environment, what: "another"})
    assert a_cache().identity != identity


class Scaled(nn.Module):
    """Code with a number in it, and the weights of a network."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.network, self.factor = toy_network(outputs=5), factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.network(x)


def test_target_cache__of_any_module_is_found_by_its_weights_and_outputs(
    computed: Counter[tuple[int, int]], tmp_path: Path
) -> None:
    one, same, other = (
        {"target": TargetModel(Scaled(factor), IMAGES.normalizer, 8)} for factor in (1, 1, 2)
    )
    assert one["target"].fingerprint == other["target"].fingerprint
    expected = everything(a_cache(tmp_path, "full", **one))
    (file,) = tmp_path.glob("banks/*/rows")
    for damage in (None, flip_a_bit, cut_off):
        if damage:
            damage(file)
        computed.clear()
        assert torch.equal(everything(a_cache(tmp_path, "full", **same)), expected)
        assert (len(computed) == len(IMAGES) * VIEWS.views) is (damage is not None)
    assert torch.equal(everything(a_cache(tmp_path, "full", **other)), everything(a_cache(**other)))
    assert len(list(tmp_path.glob("banks/*"))) == 2


def flip_a_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[773] ^= 64
    file.write_bytes(data)


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize("damage", [flip_a_bit, cut_off, Path.unlink])
@pytest.mark.parametrize("name", ["rows", "bank.json"])
def test_target_cache__damaged_file_is_computed_again(
    damage: Any, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = everything(a_cache(tmp_path, "full"))
    (file,) = tmp_path.glob(f"banks/*/{name}")
    if name == "bank.json" and damage is flip_a_bit:
        file.write_text(file.read_text().replace('"sha256": "', '"sha256": "0'))
    else:
        damage(file)
    for _ in range(2):
        assert torch.equal(everything(a_cache(tmp_path, "full")), expected)
    reported = damage is flip_a_bit or (damage is cut_off and name == "rows")
    assert capsys.readouterr().err.count("is damaged") == reported


@pytest.mark.parametrize("in_file", [False, True])
def test_target_cache__keeps_within_its_room_and_says_so_once(
    in_file: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = a_cache(tmp_path if in_file else None, "full", max_gigabytes=1e-6)  # 100 rows of ten
    assert capsys.readouterr().err.splitlines()[0] == (
        "bank: 100 of 432 representations fit into 1e-06 GB, the others are computed at each use;"
        " all of them take 4.32e-06 GB"
    )
    expected = everything(a_cache())
    for _ in range(2):
        assert torch.equal(everything(cache), expected)
    assert cache.is_cached.sum() == 100 and cache.values.nbytes == 1000
    assert not capsys.readouterr().err


def test_target_cache__full_disk_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(DataError, match="rows cannot be written: File too large"):
            a_cache(tmp_path, "full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and file.name != ".lock"]


def test_target_cache__value_beyond_float16_is_refused() -> None:
    target = replace(toy_target(IMAGES), scale=torch.full((5,), 1e-9))
    with pytest.raises(NotFiniteError, match=r"float16 ends at 65504; pass --method.bank_precisi"):
        everything(a_cache(target=target))
    assert everything(a_cache(target=target, precision="float32")).abs().max() > 65504


@pytest.mark.parametrize("mode", ["lazy", "full"])
def test_target_cache__representation_that_is_not_finite_is_refused(
    mode: CacheMode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(TargetModel, "represent", lambda *_: torch.full((64, 5), torch.nan))
        with pytest.raises(NotFiniteError, match=r"some views of toy/train .* another target"):
            everything(a_cache(tmp_path, mode))
    assert torch.equal(everything(a_cache(tmp_path, mode)), everything(a_cache()))


MANY = {"images": toy_images(200), "crop_flip": CropFlip(2, flip=True)}  # 10,000 views


def fill(folder: Path, rows: Any) -> None:
    """Fill a cache in a process of its own, and count the representations that it computes."""
    torch.set_num_threads(1)
    compute = TargetCache._compute

    def counting(self: TargetCache, row: Tensor) -> Any:
        rows.value += len(row)
        return compute(self, row)

    TargetCache._compute = counting  # type: ignore[method-assign]
    a_cache(folder, "full", **MANY)


def filling(folder: Path) -> tuple[BaseProcess, Any]:
    context = multiprocessing.get_context("fork")
    rows = context.RawValue("q", 0)  # a lock would die with the process that is killed
    process = context.Process(target=fill, args=(folder, rows))
    process.start()
    return process, rows


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("times", [2, pytest.param(100, marks=pytest.mark.torture)])
def test_target_cache__killed_while_it_is_filled_leaves_no_half_file(
    tmp_path: Path, times: int, figures: Figures
) -> None:
    expected, moments = everything(a_cache(**MANY)), random.Random(0)
    for _ in range(times):
        process, rows = filling(tmp_path)
        while rows.value <= 64 and process.is_alive():
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.05))
        process.kill()
        process.join()
        assert not list(tmp_path.glob("banks/*/bank.json"))
    assert torch.equal(everything(a_cache(tmp_path, "full", **MANY)), expected)
    assert not list(tmp_path.rglob("*.part"))
    figures.add("kill -9 while a bank is filled", f"{times} kills: bit-equal, nothing left behind")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_target_cache__two_processes_compute_it_once(tmp_path: Path, figures: Figures) -> None:
    both = [filling(tmp_path) for _ in range(2)]
    for process, _ in both:
        process.join()
        assert process.exitcode == 0
    assert sorted(rows.value for _, rows in both) == [0, 10_000]
    assert torch.equal(everything(a_cache(tmp_path, "full", **MANY)), everything(a_cache(**MANY)))
    figures.add("two processes need one bank", "bit-equal, computed once")


KRR_ST = KRRST(outer_steps=6, outer_batch=10, outer_lr=0.01, pool_size=2, max_age=2, crop_padding=1)


def run(method: KRRST, cache: Path | None = None, folder: Path | None = None) -> list[Tensor]:
    """Learned images and targets; the folder is saved after every step."""
    problem = replace(toy_problem(8), cache=cache)
    opened = folder and RunFolder.open(folder, {}, resume=True, checkpoint_seconds=0.0)
    distilled = distill(method, problem, folder=opened)
    return [distilled.images, distilled.targets]


@every_precision
def test_krr_st__bank_changes_nothing_but_rounding(precision: StoredPrecision) -> None:
    tolerance = 1e-2 if precision == "float16" else 1e-5
    off, lazy, full = (
        run(replace(KRR_ST, bank=b, bank_precision=precision)) for b in ("off", "lazy", "full")
    )
    assert equal(lazy, full)
    assert equal(off, run(replace(KRR_ST, bank_precision=precision)))
    for one, other in zip(off, lazy, strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)
