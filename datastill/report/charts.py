"""Charts: matplotlib figures as SVG that follow the reader's light or dark colour scheme, and PNG.

Colours are written in the light palette and afterwards replaced by CSS variables, which a style
sheet inside the SVG sets for either scheme. Figures are made without pyplot.
"""

import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.resources import files
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
    natural_sort_key,
    protocol_family,
    protocol_title,
    task_title,
)
from datastill.report.tables import ResultTable

CSS = files("datastill.report").joinpath("chart.css").read_text("utf-8")
LIGHT = dict(re.findall(r"--(\w+): (#\w+)", CSS.partition("@media")[0]))  # name: colour
STYLE: dict[Any, Any] = {  # the names of newer matplotlibs are a type of their own
    "svg.fonttype": "none",  # text stays text: selectable, and in the font of the page
    "svg.hashsalt": "datastill",  # the same input gives the same bytes
    "text.parse_math": False,  # a $ in a name is a $
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "text.color": LIGHT["ink"],
    **{f"axes.spines.{side}": False for side in ("top", "right")},
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), LIGHT["faint"]),
    **{f"{name}labelcolor": LIGHT["muted"] for name in ("axes.", "xtick.", "ytick.")},
    **{f"{x}tick.{level}.size": 0.0 for x in "xy" for level in ("major", "minor")},
    **{f"{name}.facecolor": "none" for name in ("axes", "figure")},
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LIGHT["grid"],
}
LOOKS = {  # colour and mark of a method, the same in every report
    **{"scratch": "muted:X", "random-subset": "ink:s", "k-means": "gold:D", "herding": "olive:p"},
    **{"dc": "olive:h", "dsa": "green:^", "dm": "violet:v", "mtt": "second:P", "kip": "teal:p"},
    **{"frepo": "rose:h", "mkdt": "gold:*", "krr-st": "accent:o"},
    **{"full-source": "muted:^", "target-model": "muted:*"},
}
OTHER_LOOKS = [f"{color}:{mark}" for mark in "<>d8" for color in list(LIGHT)[4:]]
MAX_POINTS = 2000  # in one curve, so that 160,000 steps stay a small file
LEGEND_CHARACTERS = 90  # on a line of legend or title
RESULTS, NETWORKS, LENGTHS, SIZES = "results", "networks", "lengths", "sizes"
KINDS = {  # kind of plot: title on the page, column of x, label of x
    RESULTS: ("Results", "column", ""),
    NETWORKS: ("Across networks", "network", "network"),
    LENGTHS: ("Length of pre-training", "pretrain_steps", "updates of pre-training"),
    SIZES: ("Accuracy and size", "set_bytes", "size of the distilled set"),
}


class Drawing:
    """One pair of axes and, once `drawing` has closed it, its SVG and PNG."""

    def __init__(self, width: float, height: float) -> None:  # in inches
        self.figure = Figure(figsize=(width, height), layout="constrained")
        self.axes: Axes = self.figure.add_subplot()
        self.svg = ""
        self.png = b""  # in the light palette

    @property
    def uri(self) -> str:
        """The SVG as a data URI; shorter as quoted text than in base64."""
        return f"data:image/svg+xml,{quote(self.svg, safe=' =(){}:;,/!@*+$[]|^`~')}"


@contextmanager
def drawing(width: float = 3.75, height: float = 2.3, *, png_title: str = "") -> Iterator[Drawing]:
    """Yield axes in the style of the report; render them as SVG when the block ends.

    With `png_title` there is a PNG too, which has the title in it.
    """
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the reader's font may well have it
        result = Drawing(width, height)
        yield result
        text, png = io.StringIO(), io.BytesIO()
        result.figure.savefig(text, format="svg", metadata={"Date": None})
        result.svg = _themed(text.getvalue())
        if png_title:
            result.axes.set_title(png_title, fontsize=9, loc="left")
            no_date = {"Software": None}
            result.figure.savefig(png, format="png", dpi=200, facecolor="white", metadata=no_date)
            result.png = png.getvalue()


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
        with drawing() as chart:
            mean = values.rolling(2 * (len(values) // 40) + 1, center=True, min_periods=1).mean()
            every = slice(None, None, -(-len(values) // MAX_POINTS))
            chart.axes.plot(values[every], ".", color=LIGHT["faint"], markersize=2)
            chart.axes.plot(mean[every], color=LIGHT["accent"], linewidth=1.6)
            if is_logarithmic:
                chart.axes.set_yscale("log")
                chart.axes.yaxis.set_minor_formatter("")
                chart.axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                chart.axes.yaxis.set_major_formatter("{x:g}")
            chart.axes.set_xlabel("step")
            chart.axes.xaxis.set_major_formatter("{x:,.0f}")
        caption = f"Running mean from {mean.iloc[0]:.3g} to {mean.iloc[-1]:.3g}"
        if metric == "age":
            caption += f"; {100 * (values == 0).mean():.1f} % of the steps used an untrained model"
        drawn.append((title, chart.uri, caption))
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
        look = LOOKS.get(method, "")
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


def _scatter(kind: str, points: pd.DataFrame, looks: dict[str, str], number: int) -> Plot:
    first = points.iloc[0]
    names = protocol_title(first["family" if kind == LENGTHS else "protocol"])
    network = "" if kind == NETWORKS else first["network"]
    context = (names, task_title(first["task"]), first["differing"], first["setting"], network)
    context_text = " · ".join(filter(None, [*context, first["source"]]))
    title = first["data"]
    if kind == RESULTS:
        title, context_text = "", first["heading"]
    has_counts = kind != SIZES and (points["count"].replace(0, np.nan).nunique() > 1)
    groups = list(points.groupby(["series", "count"] if kind != SIZES else ["series"], sort=False))
    ticks = sorted(points["x"].unique(), key=lambda x: natural_sort_key(str(x)))
    longest = max(len(str(key[0])) for key, _ in groups)
    legend_columns = max(1, min(len(groups), LEGEND_CHARACTERS // (longest + 12)))
    height = 2.7 + 0.18 * math.ceil(len(groups) / legend_columns)
    png_title = "\n".join([title, *wrap(context_text, LEGEND_CHARACTERS)]).strip()
    with drawing(6.2, height, png_title=png_title) as chart:
        for k, (key, part) in enumerate(groups):
            shift = (k + 0.5) / len(groups) - 0.5  # series with the same x stand side by side
            part = part[np.isfinite(part["mean"])]
            if isinstance(ticks[0], str):
                x = part["x"].map(ticks.index) + 0.8 * shift
            else:
                x = part["x"] * (ticks[-1] / ticks[0]) ** (0.1 * shift)
            color, mark = looks[str(key[0])].split(":")
            chart.axes.errorbar(
                x,
                part["mean"],
                yerr=part["half_width95"].fillna(0),
                color=LIGHT[color],
                marker=mark,
                markersize=4.5,
                linestyle="none" if isinstance(ticks[0], str) else "-",
                linewidth=0.9,
                label=f"{key[0]} ({key[1]:,})" if has_counts and key[1] else str(key[0]),
            )
        chart.axes.set(xlabel=KINDS[kind][2], ylabel=first["unit"])
        _set_ticks(chart.axes, kind, ticks)
        chart.figure.legend(loc="outside lower center", ncols=legend_columns, frameon=False)
    slug = re.sub(r"[^a-z0-9]+", "-", f"{kind}-{number:02}-{first['data']}".lower()).strip("-")
    return Plot(slug[:50], kind, title or context_text, context_text, chart.uri, chart.png)


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


def _themed(svg: str) -> str:
    """Shorten an SVG and replace its colours by the variables of the style sheet."""
    svg = svg[svg.index("<svg") :]  # without prolog and DTD
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<[^>]*>", _shortened, svg)
    svg = re.sub(r">\s+<", "><", svg).replace("<g/>", "")
    for name, color in LIGHT.items():
        svg = svg.replace(color, f"var(--{name})")
    return re.sub(r"(<svg[^>]*>)", rf"\1<style>{' '.join(CSS.split())}</style>", svg, count=1)


def _shortened(tag: re.Match[str]) -> str:
    """A tag with coordinates to a hundredth of a point, in the font of the page."""
    text = re.sub(r"^<g id=\S+?(?=/?>| )", "<g", " ".join(tag[0].split()))
    text = re.sub(r"font-family: (&#39;|')DejaVu Sans\1; ", "", text)
    return re.sub(r"(\.\d\d)\d+", r"\1", text)
