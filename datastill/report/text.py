"""Text of a report: warnings, headline, and tables as Markdown, LaTeX and CSV."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from datastill.report.formatting import (
    CONTROLS,
    RANDOM,
    format_difference,
    format_number,
    format_summary,
    protocol_title,
    task_title,
)
from datastill.report.statistics import Difference
from datastill.report.tables import MIN_N, Line, ResultTable, share_of_head_room

NOTE = (
    "Mean ± half width of Student's 95 % interval (n measurements; no interval for n = 1). Bold:"
    " among the distilled and selected sets of one M with at least"
    f" {MIN_N} measurements, the best and every one not significantly worse (Welch, 95 %)."
    " Differences are paired where both sides have the same seeds, else Welch's; intervals are"
    " not corrected for their number. Size: bytes of a set's file. Minutes: to make the set, and to"
    " pre-train a network on it. Percent of a difference: its share of the head-room, which is the"
    " full source minus the same random images. ‡: no head-room, that interval is not above 0, so"
    " the column cannot tell sets apart."
)
NO_CONTROL = (
    "† No random images of the same M, targets, updates and settings were measured here; make them"
    f" with 'datastill distill --method {RANDOM}'."
)
LATEX = str.maketrans(
    {mark: f"\\{mark}" for mark in "{}$&#_%"}
    | {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"}
    | {"±": r"$\pm$", "−": "$-$", "–": "--", "×": r"$\times$", "·": r"$\cdot$", "²": "$^2$"}
    | {"†": r"$^\dagger$", "‡": r"$^\ddagger$"}
    | {"[": "{[}", "*": "{*}"}  # at the start of a line they are options
)
MARKDOWN = str.maketrans({mark: f"\\{mark}" for mark in "\\|*`["} | {"<": "&lt;"})


@dataclass(frozen=True)
class ReportWarnings:
    """Warnings that stand before any number."""

    smoke: str = ""  # that runs are at smoke scale
    failures: str = ""  # how many parts have failed
    items: tuple[str, ...] = ()  # failed parts, missing numbers, what could not be read

    @property
    def headline(self) -> str:
        """Return all of it in one line; of items only the first and how many there are."""
        more = f" (and {len(self.items) - 1} more)" if len(self.items) > 1 else ""
        first = f"Note: {self.items[0]}{more}." if self.items else ""
        return " ".join(filter(None, [self.smoke, self.failures, first]))


@dataclass(frozen=True)
class Headline:
    """Accuracies of a distilled set and its references, and the difference to random images."""

    figures: tuple[tuple[str, str], ...] = ()  # label of a line, accuracy with interval
    where: str = ""
    difference: str = "There is no accuracy of a distilled set."

    @property
    def sentence(self) -> str:
        """Return everything in one line of text."""
        numbers = ", ".join(f"{label}: {accuracy}" for label, accuracy in self.figures)
        return f"{numbers} [{self.where}]. {self.difference}" if numbers else self.difference


@dataclass(frozen=True)
class TextTable:
    """A table of texts with the positions of bold ones."""

    title: str
    head: list[str]
    rows: list[list[str]]
    bold: set[tuple[int, int]]
    note: str = ""


def headline(tables: Sequence[ResultTable]) -> Headline:
    """Sum up the first accuracy table with a distilled set, in the middle one of its columns.

    Where there are settings that read the network's output, one of those: the column is chosen by
    its name and never by its numbers.
    """
    for table in tables:
        distilled = [line for line in table.lines if line.method not in CONTROLS]
        if distilled and not table.is_r_squared:
            break
    else:
        return Headline()
    line = max(distilled, key=lambda one: (one.method == "krr-st", not one.variant, one.count))
    columns = [column for column in table.columns if (line, column) in table.cells]
    columns = [column for column in columns if "output" in column.setting] or columns
    column = columns[len(columns) // 2]
    references = [other for other in table.lines if other.method in ("scratch", "full-source")]
    figures = tuple(
        (table.label(other), format_summary(table.cells[other, column].summary, 1))
        for other in (line, table.control_of(line), *references)
        if other and (other, column) in table.cells
    )
    task = protocol_title(table.protocol), task_title(table.task), table.differing
    size = f"M = {line.count:,}"
    where = (*task, column.data, column.setting, table.network, size, "mean ± half width (n)")
    gap = table.differences(line, table.control_of).get(column)
    difference = f"Difference to random images: {gap and format_difference(gap, 1)} points."
    return Headline(
        figures, ", ".join(filter(None, where)), difference if gap else NO_CONTROL.lstrip("† ")
    )


def text_tables(table: ResultTable) -> list[TextTable]:
    """Return the numbers of a table and, where there are any, its differences as texts."""
    head = [*table.details, *_column_heads(table)]
    best = {column: table.not_significantly_worse_than_best(column) for column in table.columns}
    rows, bold = [], set[tuple[int, int]]()
    for k, line in enumerate(table.lines):
        row = [table.label(line), *(texts[k] for texts in table.details.values())]
        for column in table.columns:
            if line in best[column]:
                bold.add((k, len(row)))
            cell = table.cells.get((line, column))
            row.append(format_summary(cell.summary, table.digits) if cell else "–")
        rows.append(row)
    numbers = TextTable(table.heading, [f"pre-training ({table.unit})", *head], rows, bold)
    distilled = [line for line in table.lines if line.method not in CONTROLS]
    varied = [line for line in table.lines if table.default_of(line)]
    parts = (
        _differences(table, "Difference to random images", distilled, table.control_of, "– †"),
        _differences(table, "Difference to the method's defaults", varied, table.default_of, "–"),
    )
    return [numbers, *(part for part in parts if part.rows)]


def _differences(
    table: ResultTable,
    title: str,
    lines: list[Line],
    reference: Callable[[Line], Line | None],
    missing: str,
) -> TextTable:
    varying = {  # details that differ
        title: dict(zip(table.lines, texts, strict=True))
        for title, texts in table.details.items()
        if title == "M" or (title not in ("size", "minutes") and len(set(texts) - {"–"}) > 1)
    }
    references = [reference(line) for line in lines]
    if any(other and other.is_coded for other in references):
        names = [f"{table.label(x)} ({x.count:,})" if x else "–" for x in references]
        varying["to"] = dict(zip(lines, names, strict=True))
    rows = []
    for line in lines:
        gaps = table.differences(line, reference)
        rooms = table.head_room(line) if reference == table.control_of else {}
        details = [texts[line] for texts in varying.values()]
        texts = [
            format_difference(gaps[column], table.digits) + _share(gaps[column], rooms.get(column))
            if column in gaps
            else missing
            for column in table.columns
        ]
        rows.append([table.label(line), *details, *texts])
    head = ["difference", *varying, *_column_heads(table)]
    is_missing = any("– †" in row for row in rows)
    return TextTable(title, head, rows, set(), NO_CONTROL if is_missing else "")


def _column_heads(table: ResultTable) -> list[str]:
    marked = table.without_head_room
    return [table.label(column) + " ‡" * (column in marked) for column in table.columns]


def _share(gap: Difference, room: Difference | None) -> str:
    """Return ", 38 %" of the head-room, "" where it is not known or none."""
    share = share_of_head_room(gap, room) if room else None
    return "" if share is None else f", {format_number(100 * share, 0)} %"


def markdown(tables: Sequence[ResultTable], warnings: ReportWarnings) -> str:
    """Write all tables as one document, warnings first."""
    parts = [f"**{_markdown(warnings.smoke)}**"] if warnings.smoke else []
    parts += ["# Transfer"] + ([f"**{warnings.failures}**"] if warnings.failures else [])
    if warnings.items:
        parts.append("\n".join(f"- {_markdown(item)}" for item in warnings.items))
    parts.append(NOTE)
    for table in tables:
        for k, part in enumerate(text_tables(table)):
            parts.append(f"{part.title}:" if k else f"## {_markdown(part.title)}")
            rows = [[_markdown(text) for text in row] for row in part.rows]
            for row, column in part.bold:
                rows[row][column] = f"**{rows[row][column]}**"
            head = [_markdown(text) for text in part.head]
            rows = [head, ["---", *("--:" for _ in head[1:])], *rows]
            parts.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
            parts += [part.note] if part.note else []
    return "\n\n".join(parts) + "\n"


def latex(tables: Sequence[ResultTable], warnings: ReportWarnings) -> str:
    """Write all tables as floats to \\input; they need the package booktabs."""
    texts = [warnings.smoke, warnings.failures, *warnings.items]
    parts = [rf"\noindent\textbf{{{_latex(text)}}}" for text in texts if text]
    parts += ["% needs \\usepackage{booktabs}", f"% {NOTE}"]
    for part in (part for table in tables for part in text_tables(table)):
        rows = [[_latex(text) for text in row] for row in [part.head, *part.rows]]
        for row, column in part.bold:
            rows[1 + row][column] = rf"\textbf{{{rows[1 + row][column]}}}"
        head, *lines = [" & ".join(row) + r" \\" for row in rows]
        body = ["\\toprule", head, "\\midrule", *lines, "\\bottomrule"]
        parts.append(
            "\\begin{table}\n\\centering\\small\n"
            f"\\caption{{{_latex(f'{part.title}. {part.note}'.strip())}}}\n"
            f"\\begin{{tabular}}{{l{'r' * (len(part.head) - 1)}}}\n"
            + "\n".join([*body, "\\end{tabular}", "\\end{table}"])
        )
    return "\n\n".join(parts) + "\n"


def csv(tables: Sequence[ResultTable]) -> str:
    """Write one line per cell with all its keys and unrounded numbers; unknown ones are empty.

    Texts that a spreadsheet would run as a formula begin with an apostrophe.
    """
    cells = pd.DataFrame((record for table in tables for record in table.records()), dtype=object)
    return cells.drop(columns="column").map(_csv_value).to_csv(index=False, lineterminator="\n")


def _csv_value(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    is_formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@"))
    return f"'{value}" if is_formula else value


def _markdown(text: str) -> str:
    """Keep names from ending a cell or a line, or from being read as HTML, links or bold."""
    return " ".join(text.translate(MARKDOWN).split())


def _latex(text: str) -> str:
    """Escape text so that LaTeX prints it as it stands, in one line."""
    return " ".join(text.translate(LATEX).split())
