"""Curves of scaling.py, ratios of outer_step.py and loops.py, as drawings for a page.

python benchmarks/speed/drawn.py RECORD_FOLDER

Beside the CSV files, SVG files that follow the reader's light or dark scheme.
"""

import argparse
import csv
import statistics
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator
from scaling import STANDARD, VARIED

from datastill.report.charts import LIGHT, drawing

COLORS = {
    "released code": LIGHT["ink"],
    "plain": LIGHT["muted"],
    "plain loop": LIGHT["muted"],
    "ours, float32": LIGHT["green"],
    "ours, float32, cold bank": LIGHT["green"],
    "ours, float32, warm bank": LIGHT["teal"],
    "ours, bfloat16": LIGHT["second"],
    "ours, bfloat16, cold bank": LIGHT["second"],
    "ours, bfloat16, warm bank": LIGHT["accent"],
    "ours, bfloat16, recorded": LIGHT["ink"],
    "ours, bfloat16, warm bank, recorded": LIGHT["ink"],
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
    found = defaultdict[str, list[Row]](list)
    for row in rows:
        found[row["contestant"]].append(row)
    return found


def draw_curve(axes: Axes, rows: list[Row], varied: str) -> None:
    """Median seconds of a step, and the range of its turns."""
    for contestant, own in by_contestant(of_curve(rows, varied)).items():
        turns = defaultdict[int, list[float]](list)
        for row in own:
            turns[int(row[varied])].append(float(row["seconds"]))
        at = sorted(turns)
        color = COLORS[contestant]
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
        for contestant, own in list(by_contestant(rows).items())[1:]:
            ratios, y = [float(row["ratio"]) for row in own], -len(labels)
            color = COLORS[contestant]
            axes.hlines(y, min(ratios), max(ratios), color=color)
            axes.plot(statistics.median(ratios), y, color=color, marker="o", markersize=4)
            labels.append(f"{title}: {contestant}")
    axes.axvline(1, color=LIGHT["faint"])
    axes.set_yticks([-y for y in range(len(labels))], labels)
    axes.set_xlabel("times faster, median and range of the turns")
    axes.set_xlim(left=0)


def grouped(rows: list[Row], names: tuple[str, ...], title: str) -> dict[str, list[Row]]:
    """Rows by the case they belong to."""
    found = defaultdict[str, list[Row]](list)
    for row in rows:
        found[title.format(**{name: row[name] for name in names})].append(row)
    return found


def drawings(folder: Path) -> Iterator[tuple[str, str]]:
    """(file name, SVG) of everything the folder has rows for."""
    scaling = rows_of(folder / "scaling.csv")
    for varied in VARIED:
        with drawing(3.75, 3.4) as made:
            draw_curve(made.axes, scaling, varied)
            made.figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=7)
        yield f"scaling-{varied}.svg", made.svg
    steps = grouped(rows_of(folder / "outer_step.csv"), ("count", "batch"), "M {count}, B {batch}")
    with drawing(6.5, 3.0) as made:
        draw_ratios(made.axes, steps)
    yield "outer_step.svg", made.svg
    with drawing(6.5, 2.6) as made:
        draw_ratios(made.axes, grouped(rows_of(folder / "loops.csv"), ("loop",), "{loop}"))
    yield "loops.svg", made.svg


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for name, svg in drawings(folder):
        (folder / name).write_text(svg)
        print(folder / name)


if __name__ == "__main__":
    main()
