"""The bank: the same bits whatever it holds, each view asked once, and never a stale answer."""

import itertools
import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from reliability import Figures
from torch import Tensor, nn
from toys import NETWORK, KilledError, equal, killed_at, toy_images, toy_problem, toy_target

from datastill import target_bank
from datastill.augment.crop_flip import CropFlip
from datastill.distill import distill
from datastill.ground.errors import NotFiniteError
from datastill.ground.machine import Machine
from datastill.ground.rng import fork, seeded
from datastill.ground.run_folder import RunFolder
from datastill.methods._base import Problem
from datastill.methods.krr_st import KRRST
from datastill.networks._base import AbstractArchitecture
from datastill.networks.convnet import ConvNet
from datastill.networks.resnet18 import ResNet18
from datastill.target_bank import Filling, Keeping, StoredPrecision, TargetBank
from datastill.target_model import TargetModel

VIEWS = CropFlip(1, flip=True)  # 18
IMAGES = toy_images()  # 24
PRECISIONS: tuple[StoredPrecision, ...] = ("float16", "float32")
every_precision = pytest.mark.parametrize("precision", PRECISIONS)


def a_bank(cache: Path | None = None, filling: Filling = "lazy", **changes: Any) -> TargetBank:
    """As a new process would make it; `changes` are of the bank or of its keeping."""
    keeping = Keeping(filling)
    for word in ("precision", "gigabytes"):
        if word in changes:
            keeping = replace(keeping, **{word: changes.pop(word)})
    given = {"target": toy_target(IMAGES), "images": IMAGES, "crop_flip": VIEWS, **changes}
    bank = TargetBank(**given, keeping=keeping, cache=cache)
    if filling == "full":
        bank.fill()
    return bank


def pairs(bank: TargetBank) -> tuple[Tensor, Tensor]:
    """Every image under every view."""
    row = torch.arange(len(bank.images) * bank.crop_flip.views)
    return row // bank.crop_flip.views, row % bank.crop_flip.views


def everything(bank: TargetBank) -> Tensor:
    return bank(*pairs(bank))


def drawn(number: int, bank: TargetBank) -> tuple[Tensor, Tensor]:
    """A batch of random size, with repetitions."""
    generator = fork(0, "drawn", number)
    size = int(torch.randint(1, 100, (), generator=generator))
    index = torch.randint(len(bank.images), (size,), generator=generator)
    return index, bank.crop_flip.draw(size, generator)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[int, int]]:
    """In how many batches the target model saw each (image, view)."""
    counted: Counter[tuple[int, int]] = Counter()
    represent = TargetBank._represent

    def counting(self: TargetBank, index: Tensor, view: Tensor) -> Tensor:
        counted.update(set(zip(index.tolist(), view.tolist(), strict=True)))
        return represent(self, index, view)

    monkeypatch.setattr(TargetBank, "_represent", counting)
    return counted


@pytest.mark.parametrize("filling", ["lazy", "full"])
@pytest.mark.parametrize("crop_flip", [VIEWS, CropFlip(0, flip=False), CropFlip(2, flip=False)])
@pytest.mark.parametrize(("precision", "rounding"), [("float16", 2**-11), ("float32", 0)])
def test_bank__equals_the_target_model_within_its_precision(
    filling: Filling, crop_flip: CropFlip, precision: str, rounding: float
) -> None:
    off, bank = (
        a_bank(filling=f, crop_flip=crop_flip, precision=precision) for f in ("off", filling)
    )
    for _ in range(2):
        expected, found = everything(off), everything(bank)
        assert found.dtype == torch.float32 and found.shape == (24 * crop_flip.views, 5)
        torch.testing.assert_close(found, expected, rtol=rounding + 1e-5, atol=1e-5)


def test_bank__that_is_off_is_the_target_model_bit_for_bit() -> None:
    bank = a_bank(filling="off")
    index, view = drawn(0, bank)
    seen = VIEWS(IMAGES.images[index], view).float() / 255
    target = toy_target(IMAGES)
    assert torch.equal(bank(index, view), target.represent(target.normalizer(seen)))


def test_bank__float16_is_the_rounded_float32() -> None:
    half, single = (everything(a_bank(precision=p)) for p in PRECISIONS)
    assert torch.equal(half, single.half().float()) and not torch.equal(half, single)


BFLOAT16 = Machine(precision="bfloat16")
ARCHITECTURES: list[AbstractArchitecture] = [
    ConvNet(widths=(16, 32, 64)),
    ResNet18(width=8),
]


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: type(a).__name__)
def test_bank__bits_depend_neither_on_batches_nor_on_what_is_kept(
    architecture: AbstractArchitecture, figures: Figures
) -> None:
    images, looked_up = toy_images(12, size=16, channels=3), 0
    with seeded(0, "network"):
        network = architecture(image_size=16, channels=3, outputs=37)
    for precision, machine in itertools.product(PRECISIONS, (Machine(), BFLOAT16)):
        target = TargetModel(
            network, images.normalizer, 16, architecture=architecture, machine=machine
        )
        of = {"images": images, "target": target, "precision": precision}
        full = a_bank(filling="full", **of)
        small, nothing = (a_bank(gigabytes=g, **of) for g in (5e-6, 0.0))
        for number in range(6):
            batch = drawn(number, full) if number % 2 else tuple(x[:3] for x in drawn(number, full))
            expected = full(*batch)
            for bank in (a_bank(**of), small, nothing):
                assert torch.equal(bank(*batch), expected)
                looked_up += len(expected)
        assert 0 < small.rows.known.sum() < small.rows.count and not nothing.rows.known.any()
    figures.add(
        f"target representations of {type(architecture).__name__}, in any batch, kept or not",
        f"{looked_up} looked up: 0 differ in a bit",
    )


class CountsItsBatch(nn.Module):
    """What it says of an image depends on how many there are, as last bits do here and there."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :5] + len(x)


def test_bank__asks_for_as_many_at_once_always() -> None:
    target = TargetModel(CountsItsBatch(), IMAGES.normalizer, 8)
    full, lazy = (a_bank(filling=f, target=target) for f in ("full", "lazy"))
    for number in range(10):
        index, view = drawn(number, full)
        assert torch.equal(lazy(index[:number], view[:number]), full(index[:number], view[:number]))
        assert torch.equal(lazy(index, view), full(index, view))


def test_bank__asks_for_each_view_once(asked: Counter[tuple[int, int]]) -> None:
    bank = a_bank()
    expected = [a_bank()(*drawn(number, bank)) for number in range(30)]
    asked.clear()
    found = [bank(*drawn(number, bank)) for number in range(30)]
    wanted = {tuple(p) for n in range(30) for p in torch.stack(drawn(n, bank), 1).tolist()}
    assert set(asked) == wanted and set(asked.values()) == {1}
    assert equal(found, expected)


@pytest.mark.parametrize("filling", ["lazy", "full"])
def test_bank__asks_for_every_view_once_in_all(
    filling: Filling, asked: Counter[tuple[int, int]], tmp_path: Path
) -> None:
    bank = a_bank(tmp_path, filling)
    for _ in range(3):
        everything(bank)
    everything(a_bank(tmp_path, filling))
    assert len(asked) == 24 * 18 and set(asked.values()) == {1}


def test_bank__takes_over_what_others_keep_meanwhile(
    asked: Counter[tuple[int, int]], tmp_path: Path
) -> None:
    one, other = a_bank(tmp_path), a_bank(tmp_path)
    for number in range(10):
        one(*drawn(number, one))
        other(*drawn(number + 5, other))
    assert asked and set(asked.values()) == {1}


def test_bank__that_is_whole_is_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, expected = a_bank(filling="full"), everything(a_bank())
    monkeypatch.setattr(type(bank.rows), "find", None)
    assert bank.rows.whole and torch.equal(everything(bank), expected)


@every_precision
def test_bank__in_a_file_has_the_bits_of_one_in_memory(
    precision: StoredPrecision, tmp_path: Path
) -> None:
    expected = everything(a_bank(precision=precision))
    for _ in range(2):
        assert torch.equal(everything(a_bank(tmp_path, precision=precision)), expected)


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
}


@pytest.mark.parametrize("what", STALE)
def test_bank__of_something_else_is_not_used(
    what: str, asked: Counter[tuple[int, int]], tmp_path: Path
) -> None:
    everything(a_bank(tmp_path))
    asked.clear()
    other = a_bank(tmp_path, **STALE[what]())
    found = everything(other)
    assert len(asked) == other.rows.count  # nothing was taken over
    assert torch.equal(found, everything(a_bank(**STALE[what]())))
    assert len(list(tmp_path.glob("banks/*"))) == 2


@pytest.mark.parametrize("what", ["threads", "processor", "gpu"])
def test_bank__of_another_machine_is_not_used(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = a_bank(tmp_path).facts
    monkeypatch.setattr(target_bank, "environment", lambda: {**here, what: "another"})
    assert a_bank(tmp_path).facts != here


def test_bank__of_code_without_an_architecture_stays_in_memory(tmp_path: Path) -> None:
    target = replace(toy_target(IMAGES), architecture=None)
    bank = a_bank(tmp_path, target=target)
    assert torch.equal(everything(bank), everything(a_bank())) and bank.rows.whole
    assert not list(tmp_path.iterdir())


def test_bank__damaged_representations_are_made_again(
    asked: Counter[tuple[int, int]], tmp_path: Path
) -> None:
    expected = everything(a_bank(tmp_path))
    (file,) = tmp_path.glob("banks/*/rows")
    data = bytearray(file.read_bytes())
    for row in (0, 77, 431):
        data[10 * row + 3] ^= 64
    file.write_bytes(data)
    asked.clear()
    assert torch.equal(everything(a_bank(tmp_path)), expected)
    assert set(asked) == {(row // 18, row % 18) for row in (0, 77, 431)}


@pytest.mark.parametrize("in_file", [False, True])
def test_bank__keeps_within_its_room_and_says_so_once(
    in_file: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bank = a_bank(tmp_path if in_file else None, "full", gigabytes=1e-6)  # a hundred rows of ten
    assert capsys.readouterr().err == (
        "bank: 100 of 432 representations fit into 1e-06 GB, the others are computed at each use;"
        " all of them take 4.32e-06 GB\n"
    )
    expected = everything(a_bank())
    for _ in range(2):
        assert torch.equal(everything(bank), expected)
    assert bank.rows.known.sum() == 100 and not bank.rows.whole
    assert in_file or bank.rows.memory.nbytes == 1000
    assert not capsys.readouterr().err


def test_bank__room_may_grow_in_the_same_file(
    asked: Counter[tuple[int, int]], tmp_path: Path
) -> None:
    expected = everything(a_bank())
    asked.clear()
    for gigabytes in (1e-6, 2e-6, 1e-6, 10.0):
        a_bank(tmp_path, "full", gigabytes=gigabytes)
    assert len(asked) == 432 and set(asked.values()) == {1}
    assert torch.equal(everything(a_bank(tmp_path)), expected)


def test_bank__that_cannot_be_written_computes_and_says_so_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bank, expected = a_bank(tmp_path), everything(a_bank())
    bank(torch.arange(5), torch.zeros(5, dtype=torch.int64))
    for file in tmp_path.glob("banks/*/*"):
        file.unlink()
    for _ in range(2):
        assert torch.equal(everything(bank), expected)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "cannot be used on: No such file or directory; what" in said


def test_bank__value_beyond_float16_is_refused() -> None:
    target = replace(toy_target(IMAGES), scale=torch.full((5,), 1e-9))
    with pytest.raises(NotFiniteError, match=r"float16 ends at 65504; pass --method.bank_precisi"):
        everything(a_bank(target=target))
    assert everything(a_bank(target=target, precision="float32")).abs().max() > 65504


@pytest.mark.parametrize("in_file", [False, True])
def test_bank__what_is_not_finite_is_passed_on_and_never_kept(
    in_file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path if in_file else None
    bank = a_bank(cache)
    with monkeypatch.context() as patch:
        patch.setattr(TargetModel, "represent", lambda *_: torch.full((64, 5), torch.nan))
        assert everything(bank).isnan().all() and not bank.rows.known.any()
    assert torch.equal(everything(bank), everything(a_bank()))


MANY = {"images": toy_images(200), "crop_flip": CropFlip(2, flip=True)}  # 10,000 views


def fill(cache: Path, made: Any) -> None:
    """Fill a bank in a process of its own, and tell how many representations it made."""
    torch.set_num_threads(1)
    make = TargetBank._make

    def counting(self: TargetBank, row: Tensor) -> Tensor:
        made.value += len(row)
        return make(self, row)

    TargetBank._make = counting  # type: ignore[method-assign]
    a_bank(cache, "full", **MANY)


def filling(cache: Path) -> tuple[BaseProcess, Any]:
    context = multiprocessing.get_context("fork")
    made = context.RawValue("q", 0)  # a lock would die with the process that is killed
    process = context.Process(target=fill, args=(cache, made))
    process.start()
    return process, made


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("times", [2, pytest.param(100, marks=pytest.mark.torture)])
def test_bank__killed_while_it_is_filled_goes_on(
    tmp_path: Path, times: int, figures: Figures
) -> None:
    expected, moments, lost = everything(a_bank(**MANY)), random.Random(0), 0
    total = len(expected)
    for kill in range(times):
        cache, made = tmp_path / str(kill), 0
        for _ in range(2):  # killed twice
            process, counter = filling(cache)
            while counter.value <= 64 and process.is_alive():  # the first batch is written
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.05))
            process.kill()
            process.join()
            made += counter.value
        process, counter = filling(cache)
        process.join()
        assert process.exitcode == 0 and counter.value < total
        lost += made + counter.value - total
        whole = a_bank(cache, **MANY)
        assert torch.equal(everything(whole), expected)
    assert 0 <= lost <= 2 * times * 64  # at most the batch in hand
    figures.add(
        "kill -9 while a bank is filled",
        f"{2 * times} kills: bit-equal, {lost / 2 / times:.0f} of {total} made twice per kill",
    )


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_bank__two_processes_share_the_filling(tmp_path: Path, figures: Figures) -> None:
    both = [filling(tmp_path) for _ in range(2)]
    for process, _ in both:
        process.join()
        assert process.exitcode == 0
    made, total = [counter.value for _, counter in both], 10_000
    assert total <= sum(made) < 1.5 * total
    assert torch.equal(everything(a_bank(tmp_path, **MANY)), everything(a_bank(**MANY)))
    figures.add(
        "two processes fill one bank", f"bit-equal, {sum(made) - total} of {total} made twice"
    )


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


def test_krr_st__full_bank_does_not_ask_the_target_model_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem: Problem = toy_problem(8)
    method = replace(KRR_ST, bank="full")
    state = method.init(problem)
    method.step(problem, state)
    monkeypatch.setattr(TargetModel, "represent", None)
    method.step(problem, state)


@pytest.mark.parametrize(
    "steps", [(1, 4), pytest.param(range(6), marks=pytest.mark.torture)], ids=["two", "all"]
)
def test_krr_st__resumes_bit_for_bit_whatever_the_bank_holds(
    steps: Iterable[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figures: Figures
) -> None:
    """Killed before a step with a bank of its own, and resumed with that one or another."""
    method, runs = replace(KRR_ST, bank="lazy"), 0
    whole = run(method)
    everything(a_bank(full := tmp_path / "full", crop_flip=CropFlip(1, flip=True)))
    a_bank(half := tmp_path / "half", "full", gigabytes=2e-6)
    states = {"its own": None, "none": tmp_path / "none", "half": half, "full": full}
    for step in steps:
        for name, cache in states.items():
            folder, own = tmp_path / f"{name}-{step}", tmp_path / f"bank-{name}-{step}"
            with monkeypatch.context() as patch, pytest.raises(KilledError):
                patch.setattr(KRRST, "step", killed_at(step, KRRST.step))
                run(method, own, folder)
            assert equal(run(method, cache or own, folder), whole)
            runs += 1
    small = replace(method, bank_gigabytes=1e-6)
    assert equal(run(small), whole) and equal(run(small, tmp_path / "small"), whole)
    figures.add(
        "KRR-ST with a lazy bank, resumed with the same, no, half and full bank",
        f"bit-equal in {runs} of {runs} runs",
    )


def test_problem__one_bank_serves_all_counts_and_seeds() -> None:
    problem = toy_problem(8)
    keeping = Keeping("lazy")
    other = replace(problem, count=4, seed=1).bank(VIEWS, keeping)
    assert other is problem.bank(VIEWS, keeping)
    assert other is not problem.bank(VIEWS, replace(keeping, precision="float32"))
