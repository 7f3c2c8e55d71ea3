"""The parts of a plan (run.py). Each is a process that plans its work to end at a given time.

python benchmarks/gpu/parts.py PART UNTIL [--toy]        UNTIL: seconds since 1970

A part writes `PART.summary` (its cell in the table), JSON files and tables into $WORK as it goes.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from unittest import mock

import pandas as pd
import torch

import datastill as ds
from datastill.core.errors import SubsetWarning
from datastill.core.rng import fork
from datastill.core.run_folder import RunFolder, environment
from datastill.images import ImageSet
from datastill.methods import krr_st
from datastill.networks.architecture import Architecture
from datastill.ops import krr
from datastill.pretrain import PRETRAINING, Pretraining
from datastill.transfer.evaluation import EvaluationSuite, evaluate_networks
from datastill.transfer.held_out import HeldOut
from datastill.transfer.origins import Origin, from_distilled, from_scratch, from_target

SPEED = Path(__file__).resolve().parents[1] / "speed"
PACKS = {"cifar100_q95": "cifar100", "cifar10_q95": "cifar10", "cub100_32_lossless": "cub"}
# Table 1 of the paper, source CIFAR-100, fine-tuning accuracy in percent
PUBLISHED = {
    "cifar100": {"scratch": "64.95 ± 0.21", "random-subset": "65.23 ± 0.12"},
    "cifar10": {"scratch": "87.34", "random-subset": "87.55"},
}
TARGET_MODEL_COST = 5  # its one fine-tuning takes about as long as that of five small networks
RELEASED = "outer step of the released code"
PLANNED_SHARE = 0.9  # of the time that is left is planned for


@dataclass(frozen=True)
class Sizes:
    """What differs between a real run and `--toy`."""

    machine: ds.Machine
    network: ds.ConvNet = ds.ConvNet()
    target_network: ds.ResNet18 = ds.ResNet18(width=32)
    projector: tuple[int, ...] = (2048, 2048, 2048)
    limit: int | None = None  # images of each split
    paper_count: int = 1000  # M of the paper's rows
    paper_steps: int = 10_000  # of fine-tuning
    count: int = 500  # M of the comparison
    batch: int = 512  # real images in an outer step
    target_batch: int = 256
    max_age: int = 1000
    epochs: int = 1000  # of pre-training
    most_finetuning_steps: int = 10_000
    most_training_steps: int = 10**6  # of the target model, and outer steps
    seeds: int = 3
    matrix_side: int = 8192
    timed_steps: tuple[int, int] = (20, 220)
    timed_seconds: float = 0.5  # of each rate


def real_sizes() -> Sizes:
    return Sizes(ds.Machine.find("cuda", "bfloat16"))


def toy_sizes() -> Sizes:
    return Sizes(
        ds.Machine(),
        network=ds.ConvNet(widths=(8, 16)),
        target_network=ds.ResNet18(width=4),
        projector=(32, 32),
        limit=2000,  # no class of CIFAR-100 without an image
        paper_count=20,
        paper_steps=20,
        count=20,
        batch=32,
        target_batch=32,
        max_age=10,
        epochs=5,
        most_finetuning_steps=30,
        most_training_steps=100,
        seeds=2,
        matrix_side=256,
        timed_steps=(2, 6),
        timed_seconds=0.05,
    )


@dataclass(frozen=True)
class Part:
    """The name of a part, when it must have ended, and its sizes."""

    name: str
    until: float  # seconds since 1970
    sizes: Sizes
    work: Path

    @property
    def seconds_left(self) -> float:
        return self.until - time.time()

    def summarize(self, text: str) -> None:
        """Write this part's cell of the table; a later call replaces it."""
        print(text, flush=True)
        (self.work / f"{self.name}.summary").write_text(text)

    def write_json(self, name: str, value: object) -> None:
        (self.work / name).write_text(json.dumps(value, indent=1))

    @property
    def names(self) -> list[str]:
        """The data sets that were packed, the source first; without any, the embedded ones."""
        return json.loads((self.work / "names.json").read_text())

    def load(self, name: str, split: str) -> ImageSet:
        size = 16 if name in ("glyphs", "digits") else 32
        return ds.source(name).load(split, size, self.work / "data").limit(self.sizes.limit, 0)

    @cached_property
    def source(self) -> ImageSet:
        return self.load(self.names[0], "train")

    @cached_property
    def tasks(self) -> list[ds.TaskData]:
        """Labelled data to fine-tune on."""
        names = [name for name in self.names if name != "glyphs"]
        return [ds.TaskData(n, self.load(n, "train"), self.load(n, "test")) for n in names]

    @cached_property
    def target(self) -> ds.TargetModel:
        return ds.TargetModel.load(self.work / "target", self.sizes.machine)

    def problem(self, images: ImageSet, target: ds.TargetModel | None, seed: int) -> ds.Problem:
        return ds.Problem(
            images,
            target,
            self.sizes.count,
            seed=seed,
            network=self.sizes.network,
            machine=self.sizes.machine,
        )


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
    """Time of one step of `work(number of steps)`: a long run minus a short one."""
    few, many = steps
    work(few)  # once to load kernels, fill the allocator and choose cuDNN's algorithms
    short, long = (seconds_of(lambda n=n: work(n)) for n in (few, many))
    return max(1e3 * (long - short) / (many - few), 1e-3)


def milliseconds_of(work: Callable[[], object], seconds: float) -> float:
    """Time of one call: the mean over about `seconds`."""
    work()
    once = seconds_of(work)
    count = max(3, int(seconds / max(once, 1e-6)))
    return 1e3 * seconds_of(lambda: [work() for _ in range(count)]) / count


# ---------------------------------------------------------------------------- data and machine


def data(part: Part) -> None:
    """Unpack the images that were sent and read them once, so that they are in the cache."""
    packed = Path(os.environ["PACKED"]) / "data"
    packs = [pack for pack in PACKS if (packed / f"{pack}.zip").exists()]
    command = [sys.executable, str(packed / "unpack.py")]
    root = part.work / "data"
    jobs = [subprocess.Popen([*command, pack, str(root), "--official"]) for pack in packs]
    for pack, job in zip(packs, jobs, strict=True):
        if job.wait():
            raise RuntimeError(f"{pack}.zip cannot be unpacked")
    names = [PACKS[pack] for pack in packs] or ["glyphs", "digits"]
    part.write_json("names.json", names)
    part.write_json("environment.json", environment())
    sizes = [f"{n} {len(part.load(n, 'train'))}/{len(part.load(n, 'test'))}" for n in names]
    part.summarize(", ".join(sizes))


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


def tests(part: Part) -> None:
    """Run the tests that compare the GPU with the CPU."""
    options = ["-rfEs", "--maxfail=15", "--tb=short", "--durations=5", "-p", "no:cacheprovider"]
    log = part.work / "test_cuda.txt"
    with log.open("w") as file:
        subprocess.run(
            [sys.executable, "-m", "pytest", "tests/test_cuda.py", *options],
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    lines = log.read_text().splitlines() or ["no output"]
    failures = [line[:120] for line in lines if line.startswith(("FAILED", "ERROR"))]
    part.summarize("; ".join([*failures[:6], lines[-1]]))


# --------------------------------------------------------------------------------------- speed


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
        (part.work / "speed.table.md").write_text(markdown(pd.DataFrame(rows).round(3)))
        part.write_json("speed.json", rows)
    part.summarize(f"{len(rows)} loops timed, {many - few} steps each")


def loops(part: Part) -> Iterator[tuple[str, Callable[[int], object]]]:
    """Each loop as a function of its number of steps, the most important first."""
    sizes, machine = part.sizes, part.sizes.machine
    images = synthetic_images(2 * max(sizes.batch, sizes.target_batch))
    training = target_training(part, 1)
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
    """Distill without the three checks for NaN that wait for the GPU: what do they cost?"""
    with (
        mock.patch.object(krr_st, "checked_optimizer_step", lambda optimizer, *_: optimizer.step()),
        mock.patch.object(krr, "cholesky", lambda matrix: torch.linalg.cholesky_ex(matrix)[0]),
    ):
        ds.distill(method, problem)


def finetuning(
    part: Part, like: ImageSet, architecture: Architecture | None = None
) -> Callable[[int], object]:
    """Fine-tuning of a network on synthetic images of the shape of `like`."""
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

    one = step(checkout, PlainKRRST(method, problem, method.init(problem)), method)
    return lambda n: [one() for _ in range(n)]


def synthetic_images(count: int, channels: int = 3, size: int = 32) -> ImageSet:
    """Labelled noise: the time of a step does not depend on what images show."""
    shape, generator = (count, channels, size, size), fork(0, "synthetic")
    pixels = torch.randint(0, 256, shape, generator=generator).to(torch.uint8)
    labels, names = torch.arange(count) % 100, tuple(map(str, range(100)))
    normalizer = ds.Normalizer((0.5,) * channels, (0.25,) * channels)
    return ImageSet("synthetic/train", pixels, normalizer, labels, names)


# ------------------------------------------------------------------------------ the paper's rows


def paper_rows(part: Part) -> None:
    """Table 1's rows that need no target model: is our fine-tuning protocol the paper's?

    Fewer seeds are run where time is short; fewer steps only where not even one seed fits.
    """
    sizes, name = part.sizes, part.names[0]
    if name == "glyphs":
        name = "digits"
    images = part.load(name, "train")
    data = ds.TaskData(name, images, part.load(name, "test"))
    each = milliseconds_per_step(finetuning(part, images), sizes.timed_steps) / 1e3
    per_seed = 2 * sizes.paper_steps * each * 1.1 + sizes.epochs * sizes.paper_count / 256 * each
    steps = sizes.paper_steps
    if per_seed > PLANNED_SHARE * part.seconds_left:
        steps = max(10, int(steps * PLANNED_SHARE * part.seconds_left / per_seed / 1.5))
    suite = EvaluationSuite([ds.Finetune(steps=steps)], [data])

    def origins(seed: int) -> list[Origin]:
        problem = replace(part.problem(images, None, seed), count=sizes.paper_count)
        random = ds.distill(ds.RandomSubset(targets="class-label"), problem)
        return [scratch(part, images, images.num_classes), pretrained(part, random)]

    rows = seed_by_seed(part, origins, suite)
    table = transfer_table(rows)
    table["published"] = [PUBLISHED.get(name, {}).get(method, "") for method in table["method"]]
    (part.work / "paper-rows.table.md").write_text(markdown(table))
    part.summarize(f"{len(rows)} rows, {steps} fine-tuning steps of {1e3 * each:.2f} ms")


# ----------------------------------------------------------------------------------- comparison


def target_training(part: Part, steps: int) -> ds.TargetTraining:
    return ds.TargetTraining(
        architecture=part.sizes.target_network,
        objective=ds.BarlowTwins(projector=part.sizes.projector),
        batch=part.sizes.target_batch,
        steps=steps,
    )


def target(part: Part) -> None:
    """Train the target model for as long as there is time."""
    images, machine = part.source.unlabelled(), part.sizes.machine

    def train(steps: int, folder: Path | None = None) -> ds.TargetModel:
        return ds.train_target(images, target_training(part, steps), machine=machine, folder=folder)

    each = milliseconds_per_step(train, part.sizes.timed_steps) / 1e3
    steps = max(10, int(PLANNED_SHARE * (part.seconds_left - 5) / each))
    steps = min(steps, part.sizes.most_training_steps)
    part.summarize(f"{steps} steps of {1e3 * each:.2f} ms are planned")
    seconds = seconds_of(lambda: train(steps, part.work / "target"))
    task = part.tasks[0]
    accuracy = knn_accuracy(part, task)
    epochs = steps * part.sizes.target_batch / len(images)
    part.summarize(
        f"{steps} steps ({epochs:.1f} epochs) in {seconds:.0f} s, {1e3 * seconds / steps:.2f} ms"
        f" each; k-NN accuracy of its representations on {task.name}: {accuracy:.1f} %"
    )


def knn_accuracy(part: Part, task: ds.TaskData) -> float:
    _, network = part.target.rebuildable()
    (result,) = ds.KnnProbe().run(network, task, machine=part.sizes.machine)
    return float(result.accuracy_percent or 0)


def distill(part: Part) -> None:
    """Run KRR-ST for as long as there is time, and keep its start: the control.

    The learning rate falls to zero at the last step, so the number of steps is planned first.
    """
    problem = part.problem(part.source.unlabelled(), part.target, 0)
    method = ds.KRRST(outer_batch=part.sizes.batch, max_age=part.sizes.max_age)
    short = replace(method, pool_size=1)  # its warm-up is a tenth; a step costs the same
    each = (
        milliseconds_per_step(
            lambda n: ds.distill(replace(short, outer_steps=n), problem), part.sizes.timed_steps
        )
        / 1e3
    )
    few_seconds = seconds_of(lambda: ds.distill(replace(short, outer_steps=1), problem))
    warm_up = 1.3 * method.pool_size * few_seconds
    steps = max(10, int(PLANNED_SHARE * (part.seconds_left - warm_up - 5) / each))
    steps = min(steps, part.sizes.most_training_steps)
    method = replace(method, outer_steps=steps)
    part.summarize(f"{steps} outer steps of {1e3 * each:.2f} ms are planned")
    method.result(problem, method.init(problem)).save(set_file(part, "start"))
    folder = RunFolder.open(part.work / "krr-st", {}, resume=True, checkpoint_seconds=1e9)
    seconds = seconds_of(lambda: ds.distill(method, problem, folder=folder))
    last = (folder.path / "metrics.jsonl").read_text().splitlines()[-1]
    part.summarize(
        f"{steps} outer steps and the warm-up in {seconds:.0f} s ({1e3 * each:.2f} ms a step);"
        f" outer loss {json.loads(last)['outer_loss']:.4g}"
    )


def set_file(part: Part, name: str) -> Path:
    (part.work / name).mkdir(exist_ok=True)
    return part.work / name / "distilled.safetensors"


def transfer(part: Part) -> None:
    """Compare KRR-ST with its own start, class labels, the full source and no pre-training."""
    sizes, images = part.sizes, part.source
    problem = part.problem(images, part.target, 0)
    sets = [ds.DistilledSet.load(part.work / "krr-st")] if krr_st_is_there(part) else []
    start = ds.DistilledSet.load(part.work / "start")
    full = ds.distill(ds.FullSource(), replace(problem, count=len(images)))
    origins = [pretrained(part, x) for x in sets]
    origins.append(replace(pretrained(part, start), method="random-subset", variant="its start"))
    if images.labels is not None:
        labelled = ds.distill(ds.RandomSubset(targets="class-label"), problem)
        origins.append(pretrained(part, labelled))
    updates = origins[0].pretrain_steps
    origins.append(from_distilled(full, sizes.network, sizes.machine, Pretraining(steps=updates)))
    origins.append(scratch(part, images, part.target.dim))

    each = milliseconds_per_step(finetuning(part, part.tasks[0].train), sizes.timed_steps) / 1e3
    networks = sizes.seeds * len(origins)
    pretraining = 1.1 * networks * updates * each
    tunings = (networks + TARGET_MODEL_COST) * len(part.tasks)
    available = PLANNED_SHARE * part.seconds_left - pretraining - 0.7 * tunings
    steps = min(sizes.most_finetuning_steps, max(20, int(available / tunings / each)))
    held_out = HeldOut(part.load(part.names[0], "test").unlabelled(), part.target)
    suite = EvaluationSuite([ds.Finetune(steps=steps)], part.tasks, held_out)
    rows = seed_by_seed(part, lambda _: origins, suite)
    slow = milliseconds_per_step(
        finetuning(part, images, part.sizes.target_network), sizes.timed_steps
    )
    if part.seconds_left > 1.1e-3 * slow * steps * len(part.tasks) + 5:
        target = measure(part, "target-model", [from_target(part.target)], 0, suite)
        rows = pd.concat([rows, target])
    (part.work / "transfer.table.md").write_text(markdown(transfer_table(rows)))
    part.summarize(f"{len(rows)} rows, {steps} fine-tuning steps of {1e3 * each:.2f} ms")


def krr_st_is_there(part: Part) -> bool:
    return (part.work / "krr-st" / "distilled.safetensors").exists()


def pretrained(part: Part, distilled: ds.DistilledSet) -> Origin:
    pretraining = replace(PRETRAINING[distilled.target_kind], epochs=part.sizes.epochs)
    return from_distilled(distilled, part.sizes.network, part.sizes.machine, pretraining)


def scratch(part: Part, images: ImageSet, outputs: int) -> Origin:
    return from_scratch(
        part.sizes.network,
        part.sizes.machine,
        image_size=images.image_size,
        channels=images.channels,
        dim=outputs,
    )


def seed_by_seed(
    part: Part, origins: Callable[[int], Sequence[Origin]], suite: EvaluationSuite
) -> pd.DataFrame:
    """All origins with one seed, then with the next, so that a stop leaves whole comparisons."""
    rows, longest = pd.DataFrame(), 0.0
    for seed in range(part.sizes.seeds):
        if part.seconds_left < 1.1 * longest + 3:
            print(f"no time for seed {seed}", flush=True)
            break
        start = time.monotonic()
        rows = pd.concat([rows, measure(part, f"seed-{seed}", origins(seed), seed, suite)])
        longest = max(longest, time.monotonic() - start)
        (part.work / f"{part.name}.table.md").write_text(markdown(transfer_table(rows)))
    return rows


def measure(
    part: Part, name: str, origins: Sequence[Origin], seed: int, suite: EvaluationSuite
) -> pd.DataFrame:
    """Measure networks with one seed, in a folder of their own, and return the rows."""
    path, machine = part.work / f"{part.name}-rows" / name, part.sizes.machine
    folder = RunFolder.open(path, {}, resume=True, checkpoint_seconds=1e9)
    work = [(origin, [seed]) for origin in origins]
    return pd.DataFrame(map(vars, evaluate_networks(work, suite, machine=machine, folder=folder)))


def transfer_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean, standard deviation and number of seeds of each row and data set."""
    rows = rows.reset_index(drop=True)
    rows["result"] = rows["accuracy_percent"].astype(float).fillna(rows["r_squared"].astype(float))
    rows["column"] = rows["task"] + " " + rows["data"]
    keys = ["method", "variant", "target_kind", "count", "set_bytes"]
    cells = rows.groupby([*keys, "column"], sort=False)["result"].agg(["mean", "std", "count"])
    means, deviations = cells["mean"].map("{:.4g}".format), cells["std"].map(" ± {:.2g}".format)
    text = means + deviations.where(cells["count"] > 1, "") + cells["count"].map(" (n = {})".format)
    return text.unstack("column", fill_value="").reset_index()


def markdown(table: pd.DataFrame) -> str:
    lines = [list(table.columns), ["---"] * len(table.columns), *table.values.tolist()]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


PARTS = {
    "data": data,
    "facts": facts,
    "tests": tests,
    "speed": speed,
    "paper-rows": paper_rows,
    "target": target,
    "distill": distill,
    "transfer": transfer,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("until", type=float)
    parser.add_argument("--toy", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", SubsetWarning)
    sizes = toy_sizes() if arguments.toy else real_sizes()
    part = Part(arguments.part, arguments.until, sizes, Path(os.environ["WORK"]))
    PARTS[arguments.part](part)


if __name__ == "__main__":
    main()
