"""The gain of distillation: a target model, a set, and the accuracy of networks trained on it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from part import Part
from timing import finetuning, milliseconds_per_step, seconds_of

import datastill as ds
from datastill.core.run_folder import RunFolder
from datastill.images import ImageSet
from datastill.pretrain import PRETRAINING, Pretraining
from datastill.transfer.evaluation import EvaluationSuite, evaluate_networks
from datastill.transfer.held_out import HeldOut
from datastill.transfer.origins import Origin, from_distilled, from_scratch, from_target

# Table 1 of the paper, source CIFAR-100, fine-tuning accuracy in percent
PUBLISHED = {
    "cifar100": {"scratch": "64.95 ± 0.21", "random-subset": "65.23 ± 0.12"},
    "cifar10": {"scratch": "87.34", "random-subset": "87.55"},
}
EQUAL_BYTES = Path(__file__).parents[1] / "equal_bytes"
EQUAL_BYTES_ROWS = (
    "random, coded", "solved, pull 0.1", "krr-st, plain", "full source", "target model"
)  # fmt: skip
GRACE_SECONDS = 8.0  # for the table
TARGET_MODEL_COST = 5  # one fine-tuning takes about as long as that of five small networks
PLANNED_SHARE = 0.9  # of the time that is left is planned for


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
    part.write_table(table)
    part.summarize(f"{len(rows)} rows, {steps} fine-tuning steps of {1e3 * each:.2f} ms")


def target(part: Part) -> None:
    """Train the target model for as long as there is time."""
    images, machine = part.source.unlabelled(), part.sizes.machine

    def train(steps: int, folder: Path | None = None) -> ds.TargetModel:
        return ds.train_target(images, part.target_training(steps), machine=machine, folder=folder)

    each = milliseconds_per_step(train, part.sizes.timed_steps) / 1e3
    steps = max(10, int(PLANNED_SHARE * (part.seconds_left - 5) / each))
    steps = min(steps, part.sizes.max_training_steps)
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
    _, network = part.target.require_network()
    (result,) = ds.KnnProbe().run(network, task, machine=part.sizes.machine)
    return float(result.accuracy_percent or 0)


def distill(part: Part) -> None:
    """Solve for targets, then run KRR-ST for as long as there is time; keep its start: the control.

    The learning rate falls to zero at the last step, so the number of steps is planned first.
    """
    problem = part.problem(part.source.unlabelled(), part.target, 0)
    solve = ds.LabelSolve(inner_models=part.sizes.inner_models, max_age=part.sizes.max_age)
    solve_seconds = seconds_of(lambda: ds.distill(solve, problem).save(set_file(part, "solved")))
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
    steps = min(steps, part.sizes.max_training_steps)
    method = replace(method, outer_steps=steps)
    part.summarize(f"{steps} outer steps of {1e3 * each:.2f} ms are planned")
    method.result(problem, method.init(problem)).save(set_file(part, "start"))
    folder = RunFolder.open(part.work / "krr-st", {}, resume=True, checkpoint_seconds=1e9)
    seconds = seconds_of(lambda: ds.distill(method, problem, folder=folder))
    last = (folder.path / "metrics.jsonl").read_text().splitlines()[-1]
    part.summarize(
        f"targets solved in {solve_seconds:.0f} s;"
        f" {steps} outer steps and the warm-up in {seconds:.0f} s ({1e3 * each:.2f} ms a step);"
        f" outer loss {json.loads(last)['outer_loss']:.4g}"
    )


def set_file(part: Part, name: str) -> Path:
    (part.work / name).mkdir(exist_ok=True)
    return part.work / name / "distilled.safetensors"


def transfer(part: Part) -> None:
    """Compare KRR-ST with its own start, class labels, the full source and no pre-training.

    Random images and images with solved targets stand beside it as coded files of equal bytes.
    """
    sizes, images = part.sizes, part.source
    problem = part.problem(images, part.target, 0)
    start = ds.DistilledSet.load(part.work / "start")
    full = ds.distill(ds.FullSource(), replace(problem, count=len(images)))
    origins = [pretrained(part, x) for x in made(part, "krr-st")]
    origins.append(replace(pretrained(part, start), method="random-subset", variant="its start"))
    for method, uncoded in (("random-subset", [start]), ("label-solve", made(part, "solved"))):
        for distilled in uncoded:  # WebP: Pillow may have been built without AVIF
            origin = pretrained(part, distilled.compress(bytes=sizes.bytes, codec="webp"))
            origins.append(replace(origin, method=method, variant="coded"))
    if images.labels is not None:
        labelled = ds.distill(ds.RandomSubset(targets="class-label"), problem)
        origins.append(pretrained(part, labelled))
    updates = origins[0].pretrain_steps
    origins.append(from_distilled(full, sizes.network, sizes.machine, Pretraining(steps=updates)))
    origins.append(scratch(part, images, part.target.dim))

    each = milliseconds_per_step(finetuning(part, part.tasks[0].train), sizes.timed_steps) / 1e3
    networks = sizes.seeds * len(origins)
    pretraining = 1.1 * networks * updates * each
    finetunings = (networks + TARGET_MODEL_COST) * len(part.tasks)
    available = PLANNED_SHARE * part.seconds_left - pretraining - 0.7 * finetunings
    steps = min(sizes.max_finetuning_steps, max(20, int(available / finetunings / each)))
    held_out = HeldOut(part.load(part.names[0], "test").unlabelled(), part.target)
    suite = EvaluationSuite([ds.Finetune(steps=steps)], part.tasks, held_out)
    rows = seed_by_seed(part, lambda _: origins, suite)
    target_model_ms = milliseconds_per_step(
        finetuning(part, images, part.sizes.target_network), sizes.timed_steps
    )
    if part.seconds_left > 1.1e-3 * target_model_ms * steps * len(part.tasks) + 5:
        target = measure(part, "target-model", [from_target(part.target)], 0, suite)
        rows = pd.concat([rows, target])
    part.write_table(transfer_table(rows))
    part.summarize(f"{len(rows)} rows, {steps} fine-tuning steps of {1e3 * each:.2f} ms")


def equal_bytes(part: Part) -> None:
    """Measure files of equal bytes by probes with few labels; a process for each seed."""
    packed, packs = Path(os.environ["PACKED"]) / "data", part.work / "packs"
    for pack in packed.glob("*.zip"):
        (packs / pack.stem).mkdir(parents=True)
        unpack = [sys.executable, str(packed / "unpack.py"), pack.stem, str(packs / pack.stem)]
        subprocess.run(unpack, check=True)
    updates = ["--updates", str(part.sizes.updates)]
    command = [sys.executable, str(EQUAL_BYTES / "measure.py"), *updates]
    command += ["--packs", str(packs), "--target", str(part.work / "target")]
    command += ["--work", str(part.work / "sets"), "--bytes", "80000", "20000"]
    files = [
        part.work / f"equal-bytes-{seed}.jsonl" for seed in range(part.sizes.equal_bytes_seeds)
    ]
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // len(files)))}
    running = []
    for seed, file in enumerate(files):
        options = ["--out", str(file), "--seeds", str(seed), "--rows", *EQUAL_BYTES_ROWS]
        running.append(subprocess.Popen([*command, *options], env=os.environ | threads))
    while part.seconds_left > GRACE_SECONDS and any(x.poll() is None for x in running):
        time.sleep(0.5)
    states = [process.poll() for process in running]
    for process in running:
        process.kill()
        process.wait()
    written = [str(file) for file in files if file.exists()]
    if not written:
        raise RuntimeError(f"no network was measured; exit codes of the seeds: {states}")
    table = [sys.executable, str(EQUAL_BYTES / "table.py"), *written, *updates]
    table += ["--target", "barlow-twins"]
    text = subprocess.run(table, check=True, capture_output=True, text=True).stdout
    (part.work / "equal-bytes.table.md").write_text(text)
    networks = sum(len(Path(file).read_text().splitlines()) for file in written)
    part.summarize(f"{networks} networks; exit codes of the seeds: {states}, None: out of time")


def made(part: Part, name: str) -> list[ds.DistilledSet]:
    """Return the set of that name; none where there was no time for it."""
    folder = part.work / name
    return [ds.DistilledSet.load(folder)] if (folder / "distilled.safetensors").exists() else []


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
    """Measure all origins with one seed, then with the next: a stop leaves complete comparisons."""
    rows, longest = pd.DataFrame(), 0.0
    for seed in range(part.sizes.seeds):
        if part.seconds_left < 1.1 * longest + 3:
            print(f"no time for seed {seed}", flush=True)
            break
        start = time.monotonic()
        rows = pd.concat([rows, measure(part, f"seed-{seed}", origins(seed), seed, suite)])
        longest = max(longest, time.monotonic() - start)
        part.write_table(transfer_table(rows))
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
    """Return mean, standard deviation and number of seeds of each row and data set."""
    rows = rows.reset_index(drop=True)
    rows["result"] = rows["accuracy_percent"].astype(float).fillna(rows["r_squared"].astype(float))
    rows["column"] = rows["task"] + " " + rows["data"]
    keys = ["method", "variant", "target_kind", "count", "set_bytes"]
    cells = rows.groupby([*keys, "column"], sort=False)["result"].agg(["mean", "std", "count"])
    means, deviations = cells["mean"].map("{:.4g}".format), cells["std"].map(" ± {:.2g}".format)
    text = means + deviations.where(cells["count"] > 1, "") + cells["count"].map(" (n = {})".format)
    return text.unstack("column", fill_value="").reset_index()
