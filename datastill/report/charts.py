"""Charts: matplotlib figures as SVG for the page and as PNG; they are made without pyplot."""

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from textwrap import wrap
from typing import Any
from urllib.parse import quote

import matplotlib as mpl
import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator

from datastill.report.folders import Run
from datastill.report.formatting import (
    FULL_SOURCE,
    METHODS,
    natural_sort_key,
    protocol_family,
    protocol_title,
    task_title,
)
from datastill.report.tables import ResultTable

STYLE: dict[Any, Any] = {  # the names of newer matplotlibs are a type of their own
    **mpl.style.library["seaborn-v0_8-whitegrid"],
    "svg.fonttype": "none",  # text stays text: selectable, and in the font of the page
    "svg.hashsalt": "datastill",  # the same input gives the same bytes
    "text.parse_math": False,  # a $ in a name is a $
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
}
OTHER_LOOKS = [f"C{color}{mark}" for mark in "<>dH" for color in range(10)]
MAX_POINTS = 1000  # in one curve, so that 160,000 steps stay a small file
LEGEND_CHARACTERS = 90  # on a line of legend or title
RESULTS, NETWORKS, LENGTHS, SIZES = "results", "networks", "lengths", "sizes"
SAME = ["task", "differing", "source", "metric", "data", "setting", "data_fingerprint"]
KINDS = {  # kind of plot: title on the page, column of x, label of x, columns with one value
    RESULTS: ("Results", "column", "", ["table"]),
    NETWORKS: ("Across networks", "network", "network", ["protocol", *SAME]),
    LENGTHS: (
        *("Length of pre-training", "pretrain_steps", "updates of pre-training"),
        ["family", "network", *SAME],
    ),
    SIZES: (
        *("Accuracy over bytes", "set_bytes", "size of the distilled set"),
        ["protocol", "network", *SAME],
    ),
}


def new_chart(width: float = 3.75, height: float = 2.3) -> tuple[Figure, Axes]:
    """Return a figure of this size in inches with its axes; call it and draw within `STYLE`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def to_svg(figure: Figure) -> str:
    """Return a figure as the text of an SVG, without prolog and DTD."""
    svg = _saved(figure, format="svg", metadata={"Date": None}).decode()
    return svg[svg.index("<svg") :].replace("'DejaVu Sans'", "'DejaVu Sans', sans-serif")


def to_uri(svg: str) -> str:
    """Return an SVG in a data URI; shorter as quoted text than in base64."""
    return f"data:image/svg+xml,{quote(svg, safe=' =(){}:;,/!@*+$[]|^`~')}"


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
        axes.plot(values[every], ".", color="0.75", markersize=2)
        axes.plot(mean[every], linewidth=1.6)
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
        drawn.append((title, to_uri(to_svg(figure)), caption))
    return drawn


@dataclass(frozen=True)
class Plot:
    """Means with intervals against one quantity."""

    name: str  # of its files
    kind: str
    title: str
    context: str  # protocol, task, network and source
    svg: str
    png: bytes

    @property
    def uri(self) -> str:
        """The SVG in a data URI, for the page, which has the title as text."""
        return to_uri(self.svg)


def scatter_plots(tables: Sequence[ResultTable]) -> list[Plot]:
    """Draw every table, and all comparisons of two or more networks, lengths or sizes."""
    points = pd.DataFrame(
        record
        | {"table": number, "heading": table.heading, "differing": table.differing}
        | {"unit": table.unit, "family": protocol_family(table.protocol)}
        for number, table in enumerate(tables)
        for record in table.records()
    )
    others, looks = cycle(OTHER_LOOKS), dict[str, str]()
    for _, method, label in points[["method", "label"]].drop_duplicates().itertuples():
        look = METHODS.get(method, "")
        looks[label] = next(others) if look in ["", *looks.values()] else look
    plots: list[Plot] = []
    for kind, (_, x, _, keys) in KINDS.items():
        for _, group in points.groupby(keys, sort=False):
            part = group.assign(x=group[x])
            part = part[part["x"] != 0]
            has_line = part.groupby("label")["x"].transform("nunique") > 1
            if kind == LENGTHS:
                part = part[has_line]
            if kind == RESULTS or (has_line.any() if kind == SIZES else part["x"].nunique() > 1):
                plots.append(_scatter(kind, part, looks, len(plots) + 1))
    return plots


@mpl.rc_context(STYLE)
def _scatter(kind: str, points: pd.DataFrame, looks: dict[str, str], number: int) -> Plot:
    first = points.iloc[0]
    title = context = first["heading"]
    if kind != RESULTS:
        names = protocol_title(first["family" if kind == LENGTHS else "protocol"])
        network = "" if kind == NETWORKS else first["network"]
        parts = (names, task_title(first["task"]), first["differing"], first["setting"], network)
        title, context = first["data"], " · ".join(filter(None, [*parts, first["source"]]))
    units = {"count": "images", "pretrain_steps": "updates"}
    full = points[points["method"] == FULL_SOURCE] if kind == SIZES else points[:0]
    points = points.drop(full.index)
    if kind == SIZES:  # more images are more bytes, and may be more updates
        units = {"pretrain_steps": "updates"} if points.duplicated(["label", "x"]).any() else {}
    varying = [  # numbers in a label
        name
        for name in units
        if name != KINDS[kind][1] and points[name].replace(0, np.nan).nunique() > 1
    ]
    ticks = sorted(points["x"].unique(), key=lambda x: natural_sort_key(str(x)))
    groups = list(points.groupby(["label", *varying], sort=False))
    figure, axes = new_chart(6.2)
    for k, (key, part) in enumerate(groups):
        shift = (k + 0.5) / len(groups) - 0.5  # series with the same x stand side by side
        numbers = ", ".join(f"{part[name].iloc[0]:,} {units[name]}" for name in varying)
        label = f"{key[0]} ({numbers})" if numbers and part["count"].iloc[0] else str(key[0])
        part = part[np.isfinite(part["mean"])].sort_values("x")
        if isinstance(ticks[0], str):
            x, line = part["x"].map(ticks.index) + 0.8 * shift, ""
        else:
            x, line = part["x"] * (ticks[-1] / ticks[0]) ** (0.04 * shift), "-"
        error, look = part["half_width95"].fillna(0), looks[str(key[0])] + line
        axes.errorbar(x, part["mean"], error, fmt=look, markersize=4.5, linewidth=0.9, label=label)
    for mean, name, steps in full[["mean", "label", "pretrain_steps"]].itertuples(index=False):
        updates = f" ({steps:,} updates)" if len(full) > 1 else ""
        axes.axhline(mean, color=METHODS[FULL_SOURCE][:2], label=f"{name}{updates}")
    axes.set(xlabel=KINDS[kind][2], ylabel=first["unit"])
    _set_ticks(axes, kind, ticks)
    labels = axes.get_legend_handles_labels()[1]
    columns = max(1, LEGEND_CHARACTERS // (8 + max(map(len, labels))))
    figure.set_figheight(2.7 - 0.18 * (-len(labels) // columns))
    figure.legend(loc="outside lower center", ncols=columns)
    svg = to_svg(figure)
    lines = dict.fromkeys([*wrap(title, LEGEND_CHARACTERS), *wrap(context, LEGEND_CHARACTERS)])
    axes.set_title("\n".join(lines), fontsize=9, loc="left")  # the page has it as text
    png = _saved(figure, format="png", dpi=200, metadata={"Software": None})
    slug = re.sub(r"[^a-z0-9]+", "-", f"{kind}-{number:02}-{first['data']}".lower()).strip("-")
    return Plot(slug[:50], kind, title, context, svg, png)


def _set_ticks(axes: Axes, kind: str, ticks: Sequence[Any]) -> None:
    """Label categories at 0, 1, ..., or an axis of numbers that is logarithmic if it is long."""
    if isinstance(ticks[0], str):
        axes.set_xticks(range(len(ticks)), ["\n".join(wrap(name, 18)[:3]) for name in ticks])
        axes.set_xlim(-0.5, len(ticks) - 0.5)
        axes.grid(visible=False, axis="x")
        return
    if kind == SIZES or ticks[-1] > 5 * ticks[0]:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(EngFormatter("B") if kind == SIZES else "{x:,.0f}")
    axes.xaxis.set_minor_formatter("")
