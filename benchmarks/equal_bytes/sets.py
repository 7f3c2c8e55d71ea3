"""The rows of the comparison: how each makes a set whose file has at most so many bytes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import features

import datastill as ds
from datastill.methods.method import Method
from datastill.problem import Problem
from datastill.stored_form.compression import Compression
from datastill.stored_form.stored import TargetBasis

COMPONENTS = 64
COUNTS = {20_000: 105, 80_000: 450, 400_000: 2_250, 1_600_000: 9_000}  # coded images, by bytes
CODEC = "avif" if features.check("avif") else "webp"
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
        dim = self.problem.needed_target.dim  # its outputs are coordinates already
        basis = TargetBasis(torch.zeros(dim), torch.eye(dim))
        form = {"bytes": self.budget, "codec": CODEC, "components": self.components}
        return {**form, "basis": basis}

    @property
    def components(self) -> int:
        return min(COMPONENTS, self.problem.needed_target.dim)

    def with_count(self, count: int) -> Problem:
        return replace(self.problem, count=count)


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
    """A mosaic and int8 codes; learned first, coded afterwards."""
    problem = row.with_count(COUNTS[row.budget])
    return ds.distill(method, problem, folder=row.folder).compress(**row.coded)


def solved(row: Row, **options: Any) -> ds.DistilledSet:
    """Random images, coded, with solved targets, as `datastill distill --bytes` makes them."""
    form = Compression(bytes=row.budget, codec=CODEC, components=row.components)
    problem = replace(row.with_count(COUNTS[row.budget]), compression=form)
    method = ds.LabelSolve(**{**BANK, "eps": 1e-6, **options})
    return ds.distill(method, problem, folder=row.folder)


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
    outer_steps=150,
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
    "full source": full_source,
}
