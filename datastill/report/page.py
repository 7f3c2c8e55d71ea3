"""The report as one self-contained HTML page: no script, and nothing fetched from anywhere."""

import io
import json
from base64 import b64encode
from collections.abc import Sequence
from importlib.resources import files

import pandas as pd
from jinja2 import Environment, StrictUndefined

from datastill.distilled_set import DistilledSet
from datastill.picture_grid import picture_grid
from datastill.report.charts import KINDS, RESULTS, Plot, curves
from datastill.report.folders import Run, number
from datastill.report.formatting import format_bytes, format_seconds, task_order, task_title
from datastill.report.tables import ResultTable
from datastill.report.text import NOTE, Headline, ReportWarnings, text_tables

MAX_RUNS = 40  # with drawings, so that a report of hundreds of runs stays a page
MAX_IMAGES = 100  # in a grid


def render(
    tables: Sequence[ResultTable],
    rows: pd.DataFrame,
    runs: Sequence[Run],
    warnings: ReportWarnings,
    headline: Headline,
    plots: Sequence[Plot],
) -> str:
    """Return the page as text."""
    folder = files("datastill.report")
    template = folder.joinpath("page.html.jinja").read_text("utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    visible = [run for run in runs if run.before or run.after or len(run.metrics)]
    sources = sorted({table.source for table in tables} - {""})
    return environment.from_string(template).render(
        style=folder.joinpath("page.css").read_text("utf-8"),
        title=f"Transfer from {', '.join(sources)}" if sources else "Transfer",
        tables=[text_tables(table) for table in tables],
        charts=[plot for plot in plots if plot.kind == RESULTS],
        plots={title: [p for p in plots if p.kind == kind] for kind, (title, *_) in KINDS.items()},
        runs=runs,
        drawn=[(run, _grids(run), curves(run)) for run in visible[:MAX_RUNS]],
        num_not_drawn=len(visible[MAX_RUNS:]),
        costs=_costs(runs, rows),
        commands=list(dict.fromkeys(run.command for run in runs if run.command)),
        row_count=len(rows),
        warnings=warnings,
        headline=headline,
        note=NOTE,
        to_json=lambda value: json.dumps(value, indent=2),
    )


def _costs(runs: Sequence[Run], rows: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    """Run, phase, wall time and peak memory of every phase, and of all rows of a task."""
    costs = [
        (run.name, *(line.get(key, "") for key in ("phase", "wall_seconds", "peak_memory_bytes")))
        for run in runs
        for line in run.phases
    ]
    for task in sorted(set(rows["task"]), key=task_order):
        group = rows[rows["task"] == task]
        seconds, memory = group["wall_seconds"].sum(), float(group["peak_memory_bytes"].max())
        costs.append((f"{len(group):,} rows", task_title(task), seconds, memory))
    return [
        (name, str(phase), format_seconds(number(seconds)), format_bytes(number(memory)))
        for name, phase, seconds, memory in costs
    ]


def _grids(run: Run) -> list[tuple[str, str]]:
    """Title and PNG data URI of the distilled images before and after distillation."""
    return [
        (f"{title}, {len(images):,} images", _grid_uri(images))
        for title, images in (("Before", run.before), ("After", run.after))
        if images is not None
    ]


def _grid_uri(images: DistilledSet) -> str:
    count = min(len(images), MAX_IMAGES)
    scale = 4 if images.image_size <= 16 else 1  # larger images would make the page heavy
    columns = next((c for c in range(int(count**0.5 + 0.999), 20) if count % c == 0), 10)
    out = io.BytesIO()
    grid = picture_grid(images.unit_pixels()[:count], columns=columns, scale=scale)
    grid.save(out, format="png", optimize=True)
    return f"data:image/png;base64,{b64encode(out.getvalue()).decode()}"
