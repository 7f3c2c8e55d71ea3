"""Curves over steps, each with a sentence that says what is to be seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from datastill.report import wording
from datastill.report.drawing import LIGHT, Drawing, drawing
from datastill.report.runs import Run

MOST_POINTS = 2000  # in one drawing, so that 160,000 steps stay a small file
MOST_MARKS = 100

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A drawing with its heading and its reading."""

    title: str
    uri: str
    reading: str
    alarm: str = ""


def curves(run: Run) -> list[Curve]:
    """All curves for which the run has metrics."""
    makers = (outer_loss, inner_ages, held_out_probe, target_loss)
    made = (maker(run) for maker in makers)
    return [curve for curve in made if curve is not None]


def outer_loss(run: Run) -> Curve | None:
    """Outer loss over steps on a logarithmic axis."""
    return _loss(run, "outer_loss", "Outer loss", logarithmic=True)


def target_loss(run: Run) -> Curve | None:
    """Training loss of a target model."""
    return _loss(run, "loss", "Training loss of the target model", logarithmic=False)


def inner_ages(run: Run) -> Curve | None:
    """The age of the inner model that each outer step used."""
    steps, ages = run.series("age")
    if not steps:
        return None
    x, y = np.asarray(steps), np.asarray(ages)
    with drawing() as made:
        few = _thin(len(x))
        _dots(made, x[few], y[few])
        made.axes.plot(x[few], _smooth(y)[few], color=LIGHT["second"], linewidth=1.4)
        _label(made, "outer step")
        made.axes.set_ylim(bottom=-0.03 * max(1.0, float(y.max())))
    return Curve("Age of the inner model used", made.uri, age_reading(ages), age_alarm(ages))


def age_reading(ages: Sequence[float]) -> str:
    """How old the inner models were, in one line."""
    y = np.asarray(ages)
    fresh = 100 * float((y == 0).mean())
    return (
        f"Inner steps taken by the network of each outer step (line: running mean). Mean"
        f" {y.mean():.1f}, largest {y.max():.0f}; {fresh:.1f} % of the steps used an untrained"
        " network (age 0)."
    )


def age_alarm(ages: Sequence[float]) -> str:
    """A warning where the second half used much younger networks than the first, else ""."""
    if len(ages) < 10:
        return ""
    halves = np.array_split(np.asarray(ages), 2)
    first, second = (float(half.mean()) for half in halves)
    if second >= first / 2:
        return ""
    fresh = 100 * float((halves[1] == 0).mean())
    return (
        f"The mean age fell from {first:.1f} in the first half to {second:.1f} in the second, where"
        f" {fresh:.0f} % of the steps used an untrained network: this pool does not age as"
        " Algorithm 1 of the paper says."
    )


def held_out_probe(run: Run) -> Curve | None:
    """R² on source images that were held out, at the steps where it was measured."""
    steps, values = run.series("held_out_r2")
    if not steps:
        return None
    with drawing() as made:
        mark = "o-" if len(steps) <= MOST_MARKS else "-"
        made.axes.plot(steps, values, mark, color=LIGHT["accent"], linewidth=1.4, markersize=3.5)
        _label(made, "outer step")
    last = wording.number(values[-1], 3)
    start = wording.number(values[0], 3)
    return Curve(
        "Held-out R² probe",
        made.uri,
        f"From {start} at step {steps[0]:,.0f} to {last} at step {steps[-1]:,.0f}. The last"
        " iterate is kept, whatever the probe says.",
    )


def _loss(run: Run, metric: str, title: str, *, logarithmic: bool) -> Curve | None:
    steps, values = run.series(metric)
    x, y = np.asarray(steps), np.asarray(values)
    if logarithmic:
        x, y = x[y > 0], y[y > 0]
    if len(x) == 0:
        return None
    smooth = np.exp(_smooth(np.log(y))) if logarithmic else _smooth(y)
    with drawing() as made:
        few = _thin(len(x))
        made.axes.plot(x[few], y[few], color=LIGHT["faint"], linewidth=0.7)
        made.axes.plot(x[few], smooth[few], color=LIGHT["accent"], linewidth=1.6)
        if logarithmic:
            made.axes.set_yscale("log")
            if y.max() < 10 * y.min():  # powers of ten would leave hardly a tick
                made.axes.yaxis.set_major_locator(MaxNLocator(6))
            made.axes.yaxis.set_major_formatter("{x:g}")
            made.axes.yaxis.set_minor_formatter("")
        _label(made, "outer step" if metric == "outer_loss" else "step")
    return Curve(title, made.uri, f"From {smooth[0]:.3g} to {smooth[-1]:.3g} (running mean).")


def _dots(made: Drawing, x: Floats, y: Floats) -> None:
    """A scatter as one path of round strokes without length: a tenth of the size of markers."""
    gap = np.full(len(x), np.nan)
    places, heights = np.column_stack([x, x, gap]).ravel(), np.column_stack([y, y, gap]).ravel()
    made.axes.plot(
        places,
        heights,
        color=LIGHT["accent"],
        alpha=0.6,
        linewidth=1.9,
        solid_capstyle="round",
    )


def _label(made: Drawing, below: str) -> None:
    made.axes.set_xlabel(below)
    made.axes.xaxis.set_major_formatter("{x:,.0f}")
    made.axes.margins(x=0.02)


def _thin(count: int) -> slice:
    return slice(None, None, max(1, -(-count // MOST_POINTS)))


def _smooth(y: Floats) -> Floats:
    """Centred running mean over about a twentieth of the steps; shorter windows at the ends."""
    reach = len(y) // 40
    total = np.concatenate([[0.0], np.cumsum(y)])
    place = np.arange(len(y))
    low, high = np.maximum(place - reach, 0), np.minimum(place + reach + 1, len(y))
    smooth: Floats = (total[high] - total[low]) / (high - low)
    return smooth
