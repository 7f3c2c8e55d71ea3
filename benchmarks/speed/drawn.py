"""Curves of scaling.py, ratios of outer_step.py and loops.py, as drawings for a page.

python benchmarks/speed/drawn.py RECORD_FOLDER

Writes SVG files beside the CSV files.
"""

import argparse
import csv
import statistics
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator
from scaling import STANDARD, VARIED

from datastill.report.charts import STYLE, new_chart, to_svg

COLOR_OF = {
    "released code": "black",
    "plain": "0.5",
    "plain loop": "0.5",
    "ours, float32": "C2",
    "ours, float32, cold bank": "C2",
    "ours, float32, warm bank": "C9",
    "ours, bfloat16": "C1",
    "ours, bfloat16, cold bank": "C1",
    "ours, bfloat16, warm bank": "C0",
    "ours, bfloat16, recorded": "black",
    "ours, bfloat16, warm bank, recorded": "black",
}
LABELS = {
    "count": "distilled images M",
    "batch": "real batch",
    "size": "image size, pixels",
    "threads": "cores",
}
Row = dict[str, str]


def rows_of(file: Path) -> list[Row]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def of_curve(rows: list[Row], varied: str) -> list[Row]:
    """All that differ from the standard point in `varied` alone."""
    others = [name for name in VARIED if name != varied]
    return [row for row in rows if all(int(row[name]) == STANDARD[name] for name in others)]


def by_contestant(rows: list[Row]) -> dict[str, list[Row]]:
    groups = defaultdict[str, list[Row]](list)
    for row in rows:
        groups[row["contestant"]].append(row)
    return groups


def draw_curve(axes: Axes, rows: list[Row], varied: str) -> None:
    """Median seconds of a step, and the range of its turns."""
    for contestant, runs in by_contestant(of_curve(rows, varied)).items():
        turns = defaultdict[int, list[float]](list)
        for row in runs:
            turns[int(row[varied])].append(float(row["seconds"]))
        at = sorted(turns)
        color = COLOR_OF[contestant]
        medians = [statistics.median(turns[x]) for x in at]
        axes.plot(at, medians, color=color, marker="o", markersize=3, label=contestant)
        axes.vlines(at, [min(turns[x]) for x in at], [max(turns[x]) for x in at], color=color)
    axes.set(xscale="log", yscale="log", xlabel=LABELS[varied], ylabel="seconds per step")
    axes.set_xticks(at, [str(x) for x in at])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def draw_ratios(axes: Axes, groups: dict[str, list[Row]]) -> None:
    """How many times faster than the first contestant of a group: median and range."""
    labels = list[str]()
    for title, rows in groups.items():
        for contestant, runs in list(by_contestant(rows).items())[1:]:
            ratios, y = [float(row["ratio"]) for row in runs], -len(labels)
            color = COLOR_OF[contestant]
            axes.hlines(y, min(ratios), max(ratios), color=color)
            axes.plot(statistics.median(ratios), y, color=color, marker="o", markersize=4)
            labels.append(f"{title}: {contestant}")
    axes.axvline(1, color="0.75")
    axes.set_yticks([-y for y in range(len(labels))], labels)
    axes.set_xlabel("times faster, median and range of the turns")
    axes.set_xlim(left=0)


def grouped(rows: list[Row], names: tuple[str, ...], title: str) -> dict[str, list[Row]]:
    """Rows by the case they belong to."""
    groups = defaultdict[str, list[Row]](list)
    for row in rows:
        groups[title.format(**{name: row[name] for name in names})].append(row)
    return groups


def drawings(folder: Path) -> Iterator[tuple[str, str]]:
    """(file name, SVG) of everything the folder has rows for."""
    scaling = rows_of(folder / "scaling.csv")
    for varied in VARIED:
        figure, axes = new_chart(3.75, 3.4)
        draw_curve(axes, scaling, varied)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=7)
        yield f"scaling-{varied}.svg", to_svg(figure)
    steps = grouped(rows_of(folder / "outer_step.csv"), ("count", "batch"), "M {count}, B {batch}")
    figure, axes = new_chart(6.5, 3.0)
    draw_ratios(axes, steps)
    yield "outer_step.svg", to_svg(figure)
    figure, axes = new_chart(6.5, 2.6)
    draw_ratios(axes, grouped(rows_of(folder / "loops.csv"), ("loop",), "{loop}"))
    yield "loops.svg", to_svg(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    with mpl.rc_context(STYLE):
        for name, svg in drawings(folder):
            (folder / name).write_text(svg)
            print(folder / name)


if __name__ == "__main__":
    main()
