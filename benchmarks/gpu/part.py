"""The input of every part of a plan: sizes, time, data and the folder for results."""

import json
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

import datastill as ds
from datastill.images import ImageSet


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
    bytes: int = 80_000  # of coded sets
    inner_models: int = 6  # of label-solve
    batch: int = 512  # real images in an outer step
    target_batch: int = 256
    max_age: int = 1000
    epochs: int = 1000  # of pre-training
    max_finetuning_steps: int = 10_000
    max_training_steps: int = 10**6  # of the target model, and outer steps
    seeds: int = 3
    updates: int = 1000  # of pre-training in the part equal-bytes
    equal_bytes_seeds: int = 5
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
        bytes=8_000,
        inner_models=2,
        batch=32,
        target_batch=32,
        max_age=10,
        epochs=5,
        max_finetuning_steps=30,
        max_training_steps=100,
        seeds=2,
        updates=10,
        equal_bytes_seeds=1,
        matrix_side=256,
        timed_steps=(2, 6),
        timed_seconds=0.05,
    )


@dataclass(frozen=True)
class Part:
    """The name of a part, the time at which it must end, its sizes and its folder."""

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

    def target_training(self, steps: int) -> ds.TargetTraining:
        return ds.TargetTraining(
            architecture=self.sizes.target_network,
            objective=ds.BarlowTwins(projector=self.sizes.projector),
            batch=self.sizes.target_batch,
            steps=steps,
        )

    def write_table(self, table: pd.DataFrame) -> None:
        """Write this part's rows, which the printed table ends with; a later call replaces them."""
        lines = [list(table.columns), ["---"] * len(table.columns), *table.values.tolist()]
        text = "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)
        (self.work / f"{self.name}.table.md").write_text(text)
