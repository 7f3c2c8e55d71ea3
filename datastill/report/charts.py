"""Charts: matplotlib figures as SVG for the page and as PNG; they are made without pyplot."""

import io
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from textwrap import wrap
from typing import Any
from urllib.parse import quote

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from datastill.report.folders import Run
from datastill.report.formatting import (
    METHODS,
    natural_sort_key,
    protocol_family,
    protocol_title,
    task_title,
)
from datastill.report.tables import ResultTable

COLORS = {
    **{"ink": "#26282c", "muted": "#73767d", "faint": "#bcbfc5", "grid": "#e7e8eb"},
    **{"accent": "#1d5fa8", "second": "#b3541e", "green": "#1b7f5c", "violet": "#7d3f98"},
    **{"gold": "#9a7400", "teal": "#12808f", "rose": "#c2426a", "olive": "#5f6b1f"},
}
STYLE: dict[Any, Any] = {  # the names of newer matplotlibs are a type of their own
    "svg.fonttype": "none",  # text stays text: selectable, and in the font of the page
    "svg.hashsalt": "datastill",  # the same input gives the same bytes
    "text.parse_math": False,  # a $ in a name is a $
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "text.color": COLORS["ink"],
    **{f"axes.spines.{side}": False for side in ("top", "right")},
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), COLORS["faint"]),
    **{f"{name}labelcolor": COLORS["muted"] for name in ("axes.", "xtick.", "ytick.")},
    **{f"{x}tick.{level}.size": 0.0 for x in "xy" for level in ("major", "minor")},
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLORS["grid"],
}
OTHER_LOOKS = [f"{color}:{mark}" for mark in "<>d8" for color in list(COLORS)[4:]]
MAX_POINTS = 1000  # in one curve, so that 160,000 steps stay a small file
LEGEND_CHARACTERS = 90  # on a line of legend or title
RESULTS, NETWORKS, LENGTHS, SIZES = "results", "networks", "lengths", "sizes"
KINDS = {  # kind of plot: title on the page, column of x, label of x
    RESULTS: ("Results", "column", ""),
    NETWORKS: ("Across networks", "network", "network"),
    LENGTHS: ("Length of pre-training", "pretrain_steps", "updates of pre-training"),
    SIZES: ("Accuracy and size", "set_bytes", "size of the distilled set"),
}


def new_chart(width: float = 3.75, height: float = 2.3) -> tuple[Figure, Axes]:
    """Return a figure of this size in inches with its axes; call it and draw within `STYLE`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def to_svg(figure: Figure) -> str:
    """Return a figure as the text of an SVG, without prolog and DTD."""
    svg = _saved(figure, format="svg", metadata={"Date": None}).decode()
    return svg[svg.index("<svg") :].replace("'DejaVu Sans'", "'DejaVu Sans', sans-serif")


def to_uri(figure: Figure) -> str:
    """Return a figure as SVG in a data URI; shorter as quoted text than in base64."""
    return f"data:image/svg+xml,{quote(to_svg(figure), safe=' =(){}:;,/!@*+$[]|^`~')}"


def _saved(figure: Figure, **options: Any) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the reader's font may well have it
        figure.savefig(out, **options)
    return out.getvalue()


@mpl.rc_context(STYLE)
def curves(run: Run) -> list[tuple[str, str, str]]:
    """Draw all metrics that a run has; return (title, SVG data URI, caption) of each."""
    titles = {
        "outer_loss": "Outer loss",
        "age": "Age of the inner model used",
        "held_out_r2": "Held-out R²",
        "loss": "Training loss of the target model",
    }
    drawn = []
    for metric, title in titles.items():
        values = run.metrics.get(metric, pd.Series(dtype=float)).dropna()
        is_logarithmic = metric == "outer_loss"
        values = values[values.between(1e-100, 1e100)] if is_logarithmic else values
        if values.empty:
            continue
        mean = values.rolling(2 * (len(values) // 40) + 1, center=True, min_periods=1).mean()
        every = slice(None, None, -(-len(values) // MAX_POINTS))
        figure, axes = new_chart()
        axes.plot(values[every], ".", color=COLORS["faint"], markersize=2)
        axes.plot(mean[every], color=COLORS["accent"], linewidth=1.6)
        if is_logarithmic:
            axes.set_yscale("log")
            axes.yaxis.set_minor_formatter("")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("step")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        caption = f"Running mean from {mean.iloc[0]:.3g} to {mean.iloc[-1]:.3g}"
        if metric == "age":
            caption += f"; {100 * (values == 0).mean():.1f} % of the steps used an untrained model"
        drawn.append((title, to_uri(figure), caption))
    return drawn


@dataclass(frozen=True)
class Plot:
    """Means with intervals against one quantity."""

    name: str  # of its file
    kind: str
    title: str
    context: str  # protocol, task, network and source
    uri: str  # of an SVG
    png: bytes


def scatter_plots(tables: Sequence[ResultTable]) -> list[Plot]:
    """Draw every table, and all comparisons of two or more networks, lengths or sizes."""
    points = _points(tables)
    series = points[["method", "series"]].drop_duplicates().itertuples(index=False, name=None)
    others, looks = cycle(OTHER_LOOKS), dict[str, str]()
    for method, name in series:
        look = METHODS.get(method, "")
        looks[name] = next(others) if look in ["", *looks.values()] else look
    plots: list[Plot] = []
    column = ["task", "differing", "source", "unit", "data", "setting", "data_fingerprint"]
    for kind, keys in {
        RESULTS: ["table"],
        NETWORKS: ["protocol", *column],
        LENGTHS: ["family", "network", *column],
        SIZES: ["protocol", *column],
    }.items():
        for _, group in points.groupby(keys, sort=kind == RESULTS):
            part = group[group["method"] != "target-model"] if kind != RESULTS else group
            if kind == SIZES:  # of the network with most sets
                network = group["network"].mode()[0]
                part = part[(part["network"] == network) & (part["unit"] != "R²")]
            part = part.assign(x=part[KINDS[kind][1]])
            part = part[part["x"] != 0]
            if kind == LENGTHS:
                part = part[part.groupby("series")["x"].transform("nunique") > 1]
            if kind == RESULTS or part["x"].nunique() > 1:
                plots.append(_scatter(kind, part, looks, len(plots) + 1))
    return plots


def _points(tables: Sequence[ResultTable]) -> pd.DataFrame:
    """One line per cell, in the order of the lines of a table."""
    records: list[dict[str, Any]] = [
        asdict(line)
        | asdict(column)
        | {name: getattr(table, name) for name in ("protocol", "task", "network", "source")}
        | {"family": protocol_family(table.protocol), "differing": table.differing}
        | {"table": number, "unit": table.unit, "heading": table.heading}
        | {"series": table.label(line), "column": table.label(column), "order": line.order}
        | asdict(table.cells[line, column].summary)
        for number, table in enumerate(tables)
        for line in table.lines
        for column in table.columns
        if (line, column) in table.cells
    ]
    records.sort(key=lambda record: record["order"])
    return pd.DataFrame(records)


@mpl.rc_context(STYLE)
def _scatter(kind: str, points: pd.DataFrame, looks: dict[str, str], number: int) -> Plot:
    first = points.iloc[0]
    names = protocol_title(first["family" if kind == LENGTHS else "protocol"])
    network = "" if kind == NETWORKS else first["network"]
    context = (names, task_title(first["task"]), first["differing"], first["setting"], network)
    context_text = " · ".join(filter(None, [*context, first["source"]]))
    title = first["data"]
    if kind == RESULTS:
        title, context_text = "", first["heading"]
    units = {"count": "images", "pretrain_steps": "updates"}  # in a label where they vary
    shown = {SIZES: [], RESULTS: list(units)}.get(kind, ["count"])
    shown = [name for name in shown if points[name].replace(0, np.nan).nunique() > 1]
    groups = list(points.groupby(["series", *shown], sort=False))
    ticks = sorted(points["x"].unique(), key=lambda x: natural_sort_key(str(x)))
    longest = max(len(str(key[0])) for key, _ in groups)
    legend_columns = max(1, min(len(groups), LEGEND_CHARACTERS // (longest + 10 + 12 * len(shown))))
    height = 2.7 + 0.18 * math.ceil(len(groups) / legend_columns)
    figure, axes = new_chart(6.2, height)
    for k, (key, part) in enumerate(groups):
        shift = (k + 0.5) / len(groups) - 0.5  # series with the same x stand side by side
        varying = ", ".join(f"{part[name].iloc[0]:,} {units[name]}" for name in shown)
        label = f"{key[0]} ({varying})" if shown and part["count"].iloc[0] else str(key[0])
        part = part[np.isfinite(part["mean"])]
        if isinstance(ticks[0], str):
            x = part["x"].map(ticks.index) + 0.8 * shift
        else:
            x = part["x"] * (ticks[-1] / ticks[0]) ** (0.1 * shift)
        color, mark = looks[str(key[0])].split(":")
        axes.errorbar(
            x,
            part["mean"],
            yerr=part["half_width95"].fillna(0),
            color=COLORS[color],
            marker=mark,
            markersize=4.5,
            linestyle="none" if isinstance(ticks[0], str) else "-",
            linewidth=0.9,
            label=label,
        )
    axes.set(xlabel=KINDS[kind][2], ylabel=first["unit"])
    _set_ticks(axes, kind, ticks)
    figure.legend(loc="outside lower center", ncols=legend_columns, frameon=False)
    uri = to_uri(figure)
    png_title = "\n".join([title, *wrap(context_text, LEGEND_CHARACTERS)]).strip()
    axes.set_title(png_title, fontsize=9, loc="left")  # the page has it as text
    png = _saved(figure, format="png", dpi=200, metadata={"Software": None})
    slug = re.sub(r"[^a-z0-9]+", "-", f"{kind}-{number:02}-{first['data']}".lower()).strip("-")
    return Plot(slug[:50], kind, title or context_text, context_text, uri, png)


def _set_ticks(axes: Axes, kind: str, ticks: Sequence[Any]) -> None:
    """Label categories at 0, 1, ..., or an axis of numbers that is logarithmic if it is long."""
    if isinstance(ticks[0], str):
        axes.set_xticks(range(len(ticks)), ["\n".join(wrap(name, 18)[:3]) for name in ticks])
        axes.set_xlim(-0.5, len(ticks) - 0.5)
        axes.grid(visible=False, axis="x")
        return
    is_logarithmic = ticks[-1] > 5 * ticks[0]
    axes.set_xscale("log" if is_logarithmic else "linear")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if is_logarithmic else MaxNLocator(6))
    axes.xaxis.set_major_formatter(EngFormatter("B") if kind == SIZES else "{x:,.0f}")
    axes.xaxis.set_minor_formatter(NullFormatter())
