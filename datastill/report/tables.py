"""The transfer table as Markdown for people and as CSV, one line per cell, for programs."""

import csv
import io
import math
from collections.abc import Iterable, Sequence

from datastill.maths.metrics import Difference
from datastill.report import wording
from datastill.report.blocks import Block, Cell, Column, Comparison, Entry
from datastill.report.glossary import task_title

CSV_HEADER = (
    *("task", "network", "source", "data", "setting", "method", "variant", "count"),
    *("metric", "mean", "std", "n", "low", "high", "distilled_sets"),
    *("minus_random", "minus_random_low", "minus_random_high", "minus_random_paired"),
)

NOTE = (
    "Mean ± half width of Student's 95 % interval (n measurements; no interval for n = 1). Bold:"
    " the best and whatever cannot be told from it; upper lines (full-source, target-model) do"
    " not compete. Differences are paired where both sides have the same seeds, else Welch's;"
    " intervals are not corrected for their number."
)


def markdown(blocks: Sequence[Block]) -> str:
    """All tables as one Markdown document."""
    parts = ["# Transfer", NOTE]
    for block in blocks:
        parts += [f"## {_escape(heading(block))}", _transfer(block)]
        if block.against_random:
            parts += ["Difference to random-subset of the same count:"]
            parts += [_comparisons(block, block.against_random)]
        if block.against_plain:
            parts += ["Difference of a variant to the method as it comes:"]
            parts += [_comparisons(block, block.against_plain)]
    return "\n\n".join(parts) + "\n"


def csv_text(blocks: Sequence[Block]) -> str:
    """One line per cell of all tables, with all its keys and unrounded numbers."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    for block in blocks:
        gaps = {
            (c.entry, col): gap for c in block.against_random for col, gap in c.differences.items()
        }
        for entry in block.entries:
            for column in block.columns:
                cell = block.cell(entry, column)
                if cell is not None:
                    gap = gaps.get((entry, column))
                    writer.writerow(_csv_line(block, entry, column, cell, gap))
    return out.getvalue()


def heading(block: Block) -> str:
    """What all numbers of a table have in common."""
    source = f"source {block.source}" if block.source else ""
    parts = (task_title(block.task), block.network, source)
    return " · ".join(part for part in parts if part)


def digits(block: Block) -> int:
    """Decimals that are worth showing."""
    return 3 if block.is_r_squared else 1


def _transfer(block: Block) -> str:
    unit = "R²" if block.is_r_squared else "accuracy, %"
    best = {column: block.best(column) for column in block.columns}
    lines = [[f"pre-training ({unit})", "M", *(column.label for column in block.columns)]]
    for entry in block.entries:
        cells = ((block.cell(entry, column), entry in best[column]) for column in block.columns)
        numbers = [_shown(cell, bold, digits(block)) for cell, bold in cells]
        lines.append([entry.label, str(entry.count or "–"), *numbers])
    return _table(lines)


def _shown(cell: Cell | None, bold: bool, decimals: int) -> str:
    if cell is None:
        return "–"
    text = wording.mean_and_interval(cell.summary, decimals)
    return f"**{text}** ({cell.summary.n})" if bold else f"{text} ({cell.summary.n})"


def _comparisons(block: Block, comparisons: Iterable[Comparison]) -> str:
    lines = [["difference", "M", *(column.label for column in block.columns)]]
    for one in comparisons:
        gaps = (one.differences.get(column) for column in block.columns)
        shown = [_gap(gap, digits(block)) for gap in gaps]
        name = f"{one.entry.label} {wording.MINUS} {one.against.label}"
        lines.append([name, str(one.entry.count or "–"), *shown])
    return _table(lines)


def _gap(gap: Difference | None, decimals: int) -> str:
    if gap is None:
        return "–"
    mean = wording.signed(gap.mean, decimals)
    return f"{mean} ({wording.bounds(gap, decimals)}; {wording.verdict(gap)})"


def _table(lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *("--:" for _ in lines[0][1:])]
    cells = [[_escape(text) for text in lines[0]], rule]
    cells += [[_escape(text) for text in line] for line in lines[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _escape(text: str) -> str:
    """Keep names from ending a cell or a line, or from being read as HTML."""
    for mark, safe in (("|", "\\|"), ("<", "&lt;"), ("\n", " "), ("\r", " ")):
        text = text.replace(mark, safe)
    return text


def _csv_line(
    block: Block, entry: Entry, column: Column, cell: Cell, gap: Difference | None
) -> list[object]:
    keys = (block.task, block.network, block.source, column.data, column.setting)
    metric = "r_squared" if block.is_r_squared else "accuracy_percent"
    s = cell.summary
    numbers = map(_known, (s.mean, s.std, s.n, s.low, s.high))
    versus = [""] * 4
    if gap is not None:
        versus = [*map(_known, (gap.mean, gap.low, gap.high)), "yes" if gap.paired else "no"]
    entry_keys = (entry.method, entry.variant, entry.count)
    return [*keys, *entry_keys, metric, *numbers, cell.distilled_sets, *versus]


def _known(value: float) -> str:
    return "" if math.isnan(value) else repr(value)
