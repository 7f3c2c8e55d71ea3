"""Build a report from any number of run folders: tables, a page and figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datastill.core.atomic import atomic_write, write_text
from datastill.core.errors import DataError
from datastill.report.arrange import result_tables
from datastill.report.charts import KINDS, Plot, scatter_plots
from datastill.report.folders import find_runs, read_failures, read_runs
from datastill.report.formatting import printable
from datastill.report.page import render
from datastill.report.rows import read_rows
from datastill.report.text import ReportWarnings, csv, headline, latex, markdown


@dataclass(frozen=True)
class ReportFiles:
    """The files of a report, and its headline as one line of text."""

    table_markdown: Path
    table_csv: Path
    table_latex: Path
    page: Path
    figures: tuple[Path, ...]  # PNG and SVG
    headline: str


def build(folders: Sequence[Path], out: Path) -> ReportFiles:
    """Write `table.md`, `table.csv`, `table.tex`, `report.html` and `figures/` about all runs.

    Files and folders that cannot be read are left out and named in the report.

    Args:
        folders: Run folders, or folders above them.
        out: Folder of the report; made if there is none.

    Raises:
        DataError: No rows were found, or `out` cannot be written.
    """
    problems: list[str] = []
    locations = find_runs(folders, problems)
    failed = [f"failed: {failure}" for failure in read_failures(locations, problems)]
    rows = read_rows(locations, problems)
    if rows.empty:
        searched = ", ".join(map(str, folders)) or "no folder at all"
        advice = (
            f"no rows.jsonl with rows was found; searched {searched}. Make rows with"
            " 'datastill run quick' or 'datastill transfer DISTILLED --to DATA --out FOLDER'"
        )
        raise DataError("; ".join([advice, *failed, *problems]))
    runs = read_runs(locations, problems)
    tables = result_tables(rows, {run.after.fingerprint: run.seconds for run in runs if run.after})
    smoke = [run.name for run in runs if run.is_smoke]
    smoke = [name for name in smoke if not any(name.startswith(f"{other}/") for other in smoke)]
    left_out = [f"left out: {problem}" for problem in dict.fromkeys(problems)]
    meaningless = "These numbers mean nothing: smoke scale, miniature data and a few steps"
    warnings = ReportWarnings(
        f"{meaningless} ({', '.join(smoke)})." if smoke else "",
        f"Incomplete: {len(failed):,} part(s) failed; their numbers are missing." if failed else "",
        tuple(printable(item) for item in [*failed, *left_out]),
    )
    summary, plots = headline(tables), scatter_plots(tables)
    texts = {
        "table.md": markdown(tables, warnings),
        "table.csv": csv(tables),
        "table.tex": latex(tables, warnings),
        "report.html": render(tables, rows, runs, warnings, summary, plots),
    }
    for name, text in texts.items():  # a lone surrogate of a foreign file has no UTF-8
        write_text(out / name, text.encode("utf-8", "replace").decode())
    figures = _write_figures(plots, out / "figures")
    line = " ".join(filter(None, [warnings.headline, summary.sentence]))
    table_md, table_csv, table_tex, page = (out / name for name in texts)
    return ReportFiles(table_md, table_csv, table_tex, page, figures, line)


def _write_figures(plots: Sequence[Plot], folder: Path) -> tuple[Path, ...]:
    """Write a PNG and an SVG per plot; remove figures of an earlier report that are no more."""
    contents = {folder / f"{plot.name}.png": plot.png for plot in plots}
    contents |= {folder / f"{plot.name}.svg": plot.svg.encode() for plot in plots}
    for path, content in contents.items():
        with atomic_write(path) as part:
            part.write_bytes(content)
    for kind in KINDS:
        for old in set(folder.glob(f"{kind}-[0-9][0-9]*.[ps][nv]g")) - set(contents):
            old.unlink()
    return tuple(contents)
