"""Time a step of each loop, and measure the rates of the machine to compare it with."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

import pandas as pd
import torch
from part import Part

import datastill as ds
from datastill.core.rng import fork
from datastill.images import ImageSet
from datastill.methods import krr_st
from datastill.networks.architecture import Architecture
from datastill.ops import krr
from datastill.pretrain import Pretraining

SPEED = Path(__file__).resolve().parents[1] / "speed"
RELEASED = "outer step of the released code"


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_of(work: Callable[[], object]) -> float:
    synchronize()
    start = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - start


def milliseconds_per_step(work: Callable[[int], object], steps: tuple[int, int]) -> float:
    """Time one step of `work(number of steps)`: a long run minus a short one."""
    few, many = steps
    work(few)  # once to load kernels, fill the allocator and choose cuDNN's algorithms
    short, long = (seconds_of(lambda n=n: work(n)) for n in (few, many))
    return max(1e3 * (long - short) / (many - few), 1e-3)


def milliseconds_of(work: Callable[[], object], seconds: float) -> float:
    """Time one call: the mean over about `seconds`."""
    work()
    once = seconds_of(work)
    count = max(3, int(seconds / max(once, 1e-6)))
    return 1e3 * seconds_of(lambda: [work() for _ in range(count)]) / count


def facts(part: Part) -> None:
    """Measure the rates that steps are compared with, and what launches and copies cost."""
    device, side = part.sizes.machine.device, part.sizes.matrix_side
    facts: dict[str, float | str] = {"torch": torch.__version__}
    timed = partial(milliseconds_of, seconds=part.sizes.timed_seconds)
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
        facts["cudnn"] = str(torch.backends.cudnn.version())

    def tera_flops(dtype: torch.dtype, side: int) -> float:
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        return 2 * side**3 / timed(lambda: a @ b) / 1e9

    facts["bfloat16 TFLOP/s"] = tera_flops(torch.bfloat16, side)
    facts["float64 TFLOP/s"] = tera_flops(torch.float64, side // 2)
    facts["float32 TFLOP/s"] = tera_flops(torch.float32, side // 2)
    x = torch.randn(side * side, device=device)
    y = torch.empty_like(x)
    facts["copy TB/s"] = 2 * x.nbytes / timed(lambda: y.copy_(x)) / 1e9
    small, index = torch.zeros(8, device=device), torch.zeros(1024, dtype=torch.int64)
    facts["launch us"] = 1e3 * timed(lambda: small.add_(1))
    facts["send 8 kB us"] = 1e3 * timed(lambda: index.to(device, non_blocking=True))
    facts["read one number us"] = 1e3 * timed(lambda: float(small[0]))
    phi = torch.randn(part.sizes.count, 4096, device=device, dtype=torch.float64)
    kernel = phi @ phi.T
    facts["Cholesky ms"] = timed(lambda: torch.linalg.cholesky_ex(kernel))
    part.write_json("facts.json", facts)
    numbers = (f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in facts.items())
    part.summarize(", ".join(numbers))


def speed(part: Part) -> None:
    """Time a step of each loop, and compare it with the least that the machine's rates allow."""
    sys.path.insert(0, str(SPEED))
    from roofline import Rates

    facts = json.loads((part.work / "facts.json").read_text())
    rates = Rates(
        bfloat16=1e12 * facts["bfloat16 TFLOP/s"],
        float64=1e12 * facts["float64 TFLOP/s"],
        bandwidth=1e12 * facts["copy TB/s"],
        launch=1e-6 * facts["launch us"],
    )
    few, many = part.sizes.timed_steps
    rows = []
    for name, work in loops(part):
        if part.seconds_left < 5:
            break
        row = {"step": name, "ms": milliseconds_per_step(work, (few, many))}
        if name != RELEASED:  # it computes the same
            short, long = (rates.least_seconds(lambda w=work, n=n: w(n)) for n in (few, few + 1))
            row["roofline ms"] = 1e3 * (long - short)
            row["times the roofline"] = row["ms"] / row["roofline ms"]
        rows.append(row)
        part.write_table(pd.DataFrame(rows).round(3))
        part.write_json("speed.json", rows)
    part.summarize(f"{len(rows)} loops timed, {many - few} steps each")


def loops(part: Part) -> Iterator[tuple[str, Callable[[int], object]]]:
    """Yield each loop as a function of its number of steps, the most important first."""
    sizes, machine = part.sizes, part.sizes.machine
    images = synthetic_images(2 * max(sizes.batch, sizes.target_batch))
    training = part.target_training(1)
    target = ds.train_target(images, training, machine=machine)
    problem = part.problem(images, target, 0)
    method = ds.KRRST(outer_batch=sizes.batch, pool_size=1, max_age=sizes.max_age)
    yield "outer step", lambda n: ds.distill(replace(method, outer_steps=n), problem)
    yield (
        "outer step without its checks",
        lambda n: unchecked(replace(method, outer_steps=n), problem),
    )
    full = replace(method, bank="full", crop_padding=1)
    yield "outer step, full bank", lambda n: ds.distill(replace(full, outer_steps=n), problem)
    released = Path(os.environ["PACKED"]) / "released"
    if released.exists():
        yield RELEASED, released_step(released, problem, method)
    yield (
        "target training",
        lambda n: ds.train_target(images, replace(training, steps=n), machine=machine),
    )
    subset = ds.distill(ds.RandomSubset(), problem)
    yield (
        "pre-training",
        lambda n: ds.pretrain(
            sizes.network, subset, pretraining=Pretraining(steps=n), machine=machine
        ),
    )
    yield "fine-tuning", finetuning(part, images)


def unchecked(method: ds.KRRST, problem: ds.Problem) -> None:
    """Distill without the three checks for NaN that wait for the GPU, to measure their cost."""
    with (
        mock.patch.object(krr_st, "checked_optimizer_step", lambda optimizer, *_: optimizer.step()),
        mock.patch.object(krr, "cholesky", lambda matrix: torch.linalg.cholesky_ex(matrix)[0]),
    ):
        ds.distill(method, problem)


def finetuning(
    part: Part, like: ImageSet, architecture: Architecture | None = None
) -> Callable[[int], object]:
    """Return the fine-tuning of a network on synthetic images of the shape of `like`."""
    images = synthetic_images(5120, like.channels, like.image_size)
    data = ds.TaskData("synthetic", images, images.take(torch.arange(2)))
    network = (architecture or part.sizes.network)(
        image_size=images.image_size, channels=images.channels, outputs=100
    )
    part.sizes.machine.to_device(network)
    return lambda n: ds.Finetune(steps=n).run(network, data, machine=part.sizes.machine)


def released_step(checkout: Path, problem: ds.Problem, method: ds.KRRST) -> Callable[[int], object]:
    from plain import PlainKRRST
    from released import step

    step_once = step(checkout, PlainKRRST(method, problem, method.init(problem)), method)
    return lambda n: [step_once() for _ in range(n)]


def synthetic_images(count: int, channels: int = 3, size: int = 32) -> ImageSet:
    """Make labelled noise: the time of a step does not depend on the content of images."""
    shape, generator = (count, channels, size, size), fork(0, "synthetic")
    pixels = torch.randint(0, 256, shape, generator=generator).to(torch.uint8)
    labels, names = torch.arange(count) % 100, tuple(map(str, range(100)))
    normalizer = ds.Normalizer((0.5,) * channels, (0.25,) * channels)
    return ImageSet("synthetic/train", pixels, normalizer, labels, names)
