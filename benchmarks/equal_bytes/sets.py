"""The rows of the comparison: how each makes a set whose file has at most so many bytes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from targets import OUTPUTS

import datastill as ds
from datastill.methods.label_solve import LabelSolveState
from datastill.methods.method import Method
from datastill.problem import Problem
from datastill.stored_form.compression import Compression
from datastill.stored_form.stored import TargetBasis

BASIS = TargetBasis(torch.zeros(OUTPUTS), torch.eye(OUTPUTS))  # its outputs are coordinates already
COMPONENTS = 64
COUNTS = {20_000: 105, 80_000: 450, 400_000: 2_250, 1_600_000: 9_000}  # coded images, by bytes
LONGER_HEADER = 400  # bytes: that of a set with solved targets has more options
FULL: list[ds.DistilledSet] = []
BANK: dict[str, Any] = {"crop_padding": 0, "flip": False, "bank": "full"}


@dataclass(frozen=True, eq=False)
class Row:
    """What a row needs to make its set.

    Args:
        problem: Source, target model, student and seed; the count is set by the row.
        budget: Bytes of the file at most.
        folder: Of the set.
    """

    problem: Problem
    budget: int
    folder: Path

    @property
    def coded(self) -> dict[str, Any]:
        """The stored form of coded rows."""
        return {"bytes": self.budget, "components": COMPONENTS, "basis": BASIS}

    def with_count(self, count: int) -> Problem:
        return replace(self.problem, count=count)


class SolveAfterCoding(ds.LabelSolve):
    """`label-solve` whose inner models and regressions see the images as they are decoded."""

    def code(self, problem: Problem, coded: dict[str, Any]) -> ds.DistilledSet:
        """Return the start, coded, and keep its pixels for `init`."""
        start = ds.distill(ds.RandomSubset(), problem).compress(**coded)
        object.__setattr__(self, "decoded", start.images)
        return start

    def init(self, problem: Problem) -> LabelSolveState:
        state = super().init(problem)
        x = problem.images.normalizer(self.decoded.to(problem.machine.device))
        state.start = replace(state.start, x=x)
        return state


def plain(method: Method[Any], row: Row) -> ds.DistilledSet:
    """Uint8 pixels and float16 targets: as many pairs as fit."""
    probe = ds.distill(ds.RandomSubset(), row.with_count(2))
    form = {"codec": "raw", "targets": "float16"}
    one, two = (
        replace(probe, images=probe.images[:n], targets=probe.targets[:n])
        .compress(**form)
        .num_bytes
        for n in (1, 2)
    )
    count = 1 + (row.budget - one - 16) // (two - one)  # the header may grow by some digits
    return ds.distill(method, row.with_count(count), folder=row.folder).compress(**form)


def coded(method: Method[Any], row: Row) -> ds.DistilledSet:
    """A mosaic by AVIF and int8 codes; learned first, coded afterwards."""
    problem = row.with_count(COUNTS[row.budget])
    return ds.distill(method, problem, folder=row.folder).compress(**row.coded)


def solved(row: Row, **options: Any) -> ds.DistilledSet:
    """Random images, coded first; then their targets are solved, and coded."""
    problem = row.with_count(COUNTS[row.budget])
    method = SolveAfterCoding(
        **{**BANK, "max_age": 300, "inner_batch": 128, "eps": 1e-6, **options}
    )
    smaller = {**row.coded, "bytes": row.budget - LONGER_HEADER}
    quality = method.code(problem, smaller).provenance["stored"]["quality"]
    distilled = ds.distill(method, problem, folder=row.folder)
    return distilled.compress(quality=quality, **row.coded)


def by_package(row: Row) -> ds.DistilledSet:
    """The same by the package alone, as `datastill distill --method label-solve --bytes` does."""
    form = Compression(bytes=row.budget, components=COMPONENTS)
    problem = replace(row.with_count(COUNTS[row.budget]), compression=form)
    method = ds.LabelSolve(max_age=300, inner_batch=128, **BANK)
    return ds.distill(method, problem, folder=row.folder)


def mixed(row: Row, share: float) -> ds.DistilledSet:
    """Solved targets and the target model's own, added with shares; spread as the latter."""
    folder = row.folder.with_name(f"solved-{row.problem.seed}")
    distilled = solved(replace(row, folder=folder))  # reads the finished one
    quality = distilled.provenance["stored"]["quality"]
    plain = ds.DistilledSet.load(folder / "distilled.safetensors")
    own = ds.DistilledSet.load(folder / "initial.safetensors").targets
    sum_ = share * plain.targets + (1 - share) * own
    mean, std = own.mean(0), own.std(0) / sum_.std(0)
    targets = (sum_ - sum_.mean(0)) * std + mean
    return replace(plain, targets=targets).compress(quality=quality, **row.coded)


def full_source(row: Row) -> ds.DistilledSet:
    """All images, the same for all seeds: their targets take minutes."""
    if not FULL:
        FULL.append(ds.distill(ds.FullSource(), row.with_count(len(row.problem.images))))
    return FULL[0]


KRR_ST = ds.KRRST(outer_steps=1200, max_age=300, **BANK)
# published: 100 experts of 20 epochs, 5,000 outer steps of 40 student steps on 256 images
MKDT = ds.MKDT(
    experts=5,
    expert_epochs=4,
    expert_seed=0,  # all sets share the experts
    max_start_epoch=2,
    outer_steps=500,
    syn_steps=20,
    syn_batch=128,
)
ROWS: dict[str, Callable[[Row], ds.DistilledSet]] = {
    "random, plain": partial(plain, ds.RandomSubset()),
    "random, coded": partial(coded, ds.RandomSubset()),
    "k-means, coded": partial(coded, ds.KMeans()),
    "krr-st, plain": partial(plain, KRR_ST),
    "krr-st, coded": partial(coded, KRR_ST),
    "mkdt, plain": partial(plain, MKDT),
    "mkdt, coded": partial(coded, MKDT),
    "high-loss, coded": partial(coded, ds.HighLoss()),
    "solved": solved,
    "solved, ages to 1000": partial(solved, max_age=1000),
    "solved, not rescaled": partial(solved, rescale=False),
    "solved, pull 0.01": partial(solved, eps=0.01),
    "solved, pull 0.1": partial(solved, eps=0.1),
    "solved, pull 1": partial(solved, eps=1.0),
    "solved, 2 rounds": partial(solved, rounds=2, inner_models=4),
    "label-solve": by_package,
    "solved, half own": partial(mixed, share=0.5),
    "full source": full_source,
}
