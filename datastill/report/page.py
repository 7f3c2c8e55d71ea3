"""The report as one self-contained HTML page: no script, and nothing fetched from anywhere."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from datastill.report import glossary, wording
from datastill.report.blocks import Block, Column
from datastill.report.chart import chart
from datastill.report.curves import Curve, curves
from datastill.report.headline import Headline, headline
from datastill.report.pictures import Pictures, pictures
from datastill.report.rows import Row
from datastill.report.runs import Run
from datastill.report.tables import digits, heading

OPEN_RUNS = 3  # the drawings of further runs are folded
MOST_COLUMNS = 6  # wider tables are set narrowly and their charts are folded


@dataclass(frozen=True)
class TransferSection:
    """A table with its charts."""

    block: Block
    heading: str
    digits: int
    charts: tuple[tuple[Column, str], ...]


@dataclass(frozen=True)
class RunSection:
    """What a run has to show."""

    run: Run
    pictures: Pictures | None
    curves: tuple[Curve, ...]
    environment: str


@dataclass(frozen=True)
class Cost:
    """Time and memory of one phase."""

    run: str
    phase: str
    wall: str
    memory: str


def render(blocks: Sequence[Block], rows: Sequence[Row], runs: Sequence[Run]) -> str:
    """The page as text."""
    sections = [_run_section(run) for run in runs]
    page: Headline = headline(blocks)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(
        files("datastill.report").joinpath("page.html.jinja").read_text("utf-8")
    )
    return template.render(
        headline=page,
        transfers=[_transfer_section(block) for block in blocks],
        runs=sections,
        shown=[section for section in sections if section.pictures or section.curves],
        open_runs=OPEN_RUNS,
        most_columns=MOST_COLUMNS,
        costs=_costs(runs, rows),
        methods=_meanings(glossary.METHODS, [row.method for row in rows]),
        variants=_meanings(glossary.VARIANTS, [row.variant for row in rows]),
        tasks=_meanings({k: v[1] for k, v in glossary.TASKS.items()}, [row.task for row in rows]),
        commands=list(dict.fromkeys(run.command for run in runs if run.command)),
        notes=_notes(blocks),
        row_count=len(rows),
        words=wording,
    )


def _transfer_section(block: Block) -> TransferSection:
    drawn = tuple((column, chart(block, column)) for column in block.columns)
    return TransferSection(block, heading(block), digits(block), drawn)


def _run_section(run: Run) -> RunSection:
    environment = json.dumps(run.environment, indent=2, ensure_ascii=False)
    return RunSection(
        run, pictures(run), tuple(curves(run)), environment if run.environment else ""
    )


def _costs(runs: Sequence[Run], rows: Sequence[Row]) -> list[Cost]:
    phases = [
        Cost(
            run.name,
            str(line.get("phase", "")),
            wording.duration(float(line.get("wall_seconds") or 0)),
            wording.memory(float(line.get("peak_memory_bytes") or 0)),
        )
        for run in runs
        for line in run.phases
    ]
    return phases + [_cost_of_task(task, rows) for task in dict.fromkeys(r.task for r in rows)]


def _cost_of_task(task: str, rows: Sequence[Row]) -> Cost:
    mine = [row for row in rows if row.task == task]
    return Cost(
        f"{len(mine):,} row{'s' if len(mine) != 1 else ''}",
        f"{glossary.task_title(task)}, all rows together",
        wording.duration(sum(row.wall_seconds for row in mine)),
        wording.memory(max(row.peak_memory_bytes for row in mine)),
    )


def _meanings(known: dict[str, str], used: Sequence[str]) -> list[tuple[str, str]]:
    """Names that occur, in the order of the glossary, then those it does not know."""
    present = {name for name in used if name}
    unknown = sorted(present - set(known))
    return [(name, known[name]) for name in known if name in present] + [
        (name, "Not described in this report's glossary.") for name in unknown
    ]


def _notes(blocks: Sequence[Block]) -> list[str]:
    """What the reader must know to read the intervals."""
    cells = [cell for block in blocks for cell in block.cells.values()]
    notes = []
    if any(cell.distilled_sets == 1 and cell.summary.n > 1 for cell in cells):
        notes.append(
            "Rows that share one distilled set repeat pre-training and task with other seeds, not"
            " the distillation; their intervals say nothing about its spread."
        )
    if any(cell.summary.n == 1 for cell in cells):
        notes.append("Numbers without ± were measured once.")
    return notes
