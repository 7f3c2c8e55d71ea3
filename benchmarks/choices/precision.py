"""Whether bfloat16 changes results: whole runs in both number formats, seed by seed.

Usage: python benchmarks/choices/precision.py --out runs/precision --data-root DIR
The recipes quick, and cifar100-small with one set of KRR-ST, half of the target model's steps and
a third of the outer steps: target model, distillation and transfer. Each run leaves a run folder.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd

from datastill.core.machine import Machine, PrecisionName
from datastill.experiments.recipe import DistillationSpec, Recipe
from datastill.experiments.runner import Experiment, run_recipe
from datastill.methods.krr_st import KRRST
from datastill.recipes import cifar100_small, quick
from datastill.report.folders import find_runs
from datastill.report.formatting import format_number
from datastill.report.rows import read_rows
from datastill.report.statistics import difference, summarize

PLAIN: PrecisionName = "float32"
FAST: PrecisionName = "bfloat16"


def small() -> Recipe:
    """One row of cifar100-small, shortened."""
    recipe = cifar100_small.recipe()
    assert recipe.target is not None
    krr_st = next(sets.method for sets in recipe.sets if isinstance(sets.method, KRRST))
    return replace(
        recipe,
        target=replace(recipe.target, steps=600),
        sets=(DistillationSpec(replace(krr_st, outer_steps=300), 100),),
        data=("cifar10", "cub"),
        seeds=1,
    )


def rows_of(
    recipe: Recipe, precision: PrecisionName, seed: int, out: Path, data: Path | None
) -> pd.DataFrame:
    """The rows of a run, measured now unless its folder has them."""
    folder = out / f"{recipe.name}-{precision}-{seed}"
    chosen, machine = replace(recipe, precision=precision), Machine.find("auto", precision)
    run_recipe(Experiment(chosen, folder, seed, machine, data), resume=folder.exists())
    return read_rows(find_runs([folder], []), [])


def table(runs: dict[PrecisionName, list[pd.DataFrame]]) -> Iterator[str]:
    """A line per row of the recipe; a value is the mean over the networks of one run."""
    columns = {precision: [by_row(rows) for rows in frames] for precision, frames in runs.items()}
    yield f"| row | {PLAIN} | {FAST} | {FAST} − {PLAIN}, paired | 95 % interval | n |"
    yield "|---|--:|--:|--:|--:|--:|"
    for name in columns[PLAIN][0]:
        digits = 3 if "R²" in name else 2
        plain, fast = ([run[name] for run in columns[p]] for p in (PLAIN, FAST))
        cells = []
        for estimate in (summarize(plain), summarize(fast)):
            numbers = (estimate.mean, estimate.half_width95)
            cells.append(" ± ".join(format_number(x, digits) for x in numbers))
        gap = difference(fast, plain, paired=True)
        mean, low, high = (format_number(x, digits) for x in (gap.mean, gap.low, gap.high))
        cells += ["+" * (gap.mean > 0) + mean, f"{low} to {high}", str(len(plain))]
        yield f"| {name} | {' | '.join(cells)} |"


def by_row(rows: pd.DataFrame) -> dict[str, float]:
    values_of = defaultdict[str, list[float]](list)
    for row in rows.itertuples():
        unit = "R²" if row.is_r_squared else "%"
        task = f"{row.task} {row.setting}".strip()
        values_of[f"{row.method}, {row.data}, {task}, {unit}"].append(row.value)
    return {name: summarize(values).mean for name, values in values_of.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data-root", type=Path)
    recipes = {"quick": quick.recipe, "cifar100-small": small}
    parser.add_argument("--recipes", choices=recipes, nargs="+", default=list(recipes))
    arguments = parser.parse_args()
    for recipe in (recipes[name]() for name in arguments.recipes):
        runs: dict[PrecisionName, list[pd.DataFrame]] = {PLAIN: [], FAST: []}
        for seed in range(arguments.seeds):
            for precision, frames in runs.items():
                frames.append(rows_of(recipe, precision, seed, arguments.out, arguments.data_root))
        print(f"\n{recipe.name}\n", *table(runs), sep="\n", flush=True)


if __name__ == "__main__":
    main()
