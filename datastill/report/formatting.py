"""Order, titles and number formats of a report."""

import math
import re
from datetime import timedelta

from datastill.report.statistics import Difference, Summary

METHODS = {  # in the order of tables, others before krr-st; colour and mark in every chart
    **{"scratch": "C7X", "random-subset": "C7s", "k-means": "C8D", "herding": "C5p"},
    **{"high-loss": "C5o"},
    **{"dc": "C9h", "dsa": "C2^", "dm": "C4v", "mtt": "C3P", "kip": "C9p", "frepo": "C6h"},
    **{"mkdt": "C1*", "label-solve": "C4D", "krr-st": "C0o"},
    **{"full-source": "C7^", "target-model": "C7*"},
}
TASKS = {
    "linear-probe": "Linear probe",
    "finetune": "Fine-tuning",
    "knn-probe": "k-NN probe",
    "classify": "Classification",
    "data-free-kd": "Target-data-free distillation",
    "held-out-r2": "Held-out R²",
}
PROTOCOLS = {
    "paper": "Protocol of the paper",
    "mkdt": "Protocol of MKDT",
    "labelled": "Labelled standard",
    "equal-budget": "Equal budgets",
}
TARGET_KINDS = {
    "hard-label": "class labels",
    "soft-label": "soft labels",
    "representation": "representations",
}
RANDOM = "random-subset"
REFERENCES = frozenset({"scratch", "full-source", "target-model"})
CONTROLS = REFERENCES | {RANDOM}
FULL_SOURCE = "full-source"


def protocol_family(protocol: str) -> str:
    """Remove the length of pre-training: "mkdt" for "mkdt, 100 epochs"."""
    return re.sub(r", [\d,]+ (epochs?|steps?)$", "", protocol)


def protocol_title(protocol: str) -> str:
    """Return a protocol as a heading; "" for custom settings."""
    family = protocol_family(protocol)
    return protocol and PROTOCOLS.get(family, f"Protocol {family}") + protocol[len(family) :]


def task_title(task: str) -> str:
    """Return a task's name as a heading."""
    return TASKS.get(task, task.replace("-", " ").capitalize())


def protocol_order(protocol: str) -> tuple[object, ...]:
    """Sort key: protocols of datastill first, then others, custom settings last."""
    family = protocol_family(protocol)
    rank = list(PROTOCOLS).index(family) if family in PROTOCOLS else len(PROTOCOLS) + (not family)
    return rank, natural_sort_key(protocol)


def method_order(method: str) -> tuple[int, str]:
    """Sort key: scratch, random subsets, other methods, krr-st, then the upper references."""
    names = list(METHODS)
    names.insert(names.index("krr-st"), "")  # unknown methods stand here
    return names.index(method if method in METHODS else ""), method


def task_order(task: str) -> tuple[int, str]:
    """Sort key: tasks of datastill first, then others by name."""
    return (list(TASKS).index(task) if task in TASKS else len(TASKS)), task


def natural_sort_key(text: str) -> list[str | int]:
    """Sort key in which 5 comes before 10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]


def printable(value: object) -> str:
    """Return one line of text without control characters, which a terminal would act on."""
    return "".join(c if c.isprintable() else " " for c in str(value))


def format_number(value: float, digits: int) -> str:
    """Round, with a real minus sign and no negative zero."""
    if not math.isfinite(value):
        return "not finite"
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def format_summary(summary: Summary, digits: int) -> str:
    """Return 49.9 ± 1.3 (3), or 49.9 (1) where one value gives no interval."""
    half_width = summary.half_width95
    interval = f" ± {format_number(half_width, digits)}" if math.isfinite(half_width) else ""
    return f"{format_number(summary.mean, digits)}{interval} ({summary.n})"


def format_difference(gap: Difference, digits: int) -> str:
    """Return +1.2 (0.3 to 2.1; excludes 0)."""
    mean = format_number(gap.mean, digits)
    sign = "+" if round(gap.mean, digits) > 0 else ""
    if not math.isfinite(gap.half_width95):
        return f"{sign}{mean} (no interval)"
    interval = f"{format_number(gap.low, digits)} to {format_number(gap.high, digits)}"
    return f"{sign}{mean} ({interval}; {'excludes' if gap.excludes_zero else 'includes'} 0)"


def format_seconds(seconds: float) -> str:
    """Return 0.4 s or 3:20:00; "–" for NaN."""
    if not math.isfinite(seconds):
        return "–"
    return f"{seconds:.1f} s" if seconds < 100 else str(timedelta(seconds=round(seconds)))


def format_minutes(minutes: float) -> str:
    """Return 0.05, 2.5 or 120, "–" for NaN."""
    digits = 2 if minutes < 1 else 1 if minutes < 10 else 0
    return f"{minutes:,.{digits}f}" if math.isfinite(minutes) else "–"


def format_bytes(count: float) -> str:
    """Return B, kB, MB or GB (powers of ten), "–" for none."""
    if not count > 0:
        return "–"
    power = min(int(math.log10(count) // 3), 3)
    amount = count / 1000**power
    digits = 0 if power == 0 or amount >= 100 else 1
    return f"{amount:.{digits}f} {('B', 'kB', 'MB', 'GB')[power]}"


def format_count(count: float) -> str:
    return f"{count:,.0f}" if count else "–"
