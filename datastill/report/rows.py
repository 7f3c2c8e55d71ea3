"""Rows of measurements: read from run folders into one DataFrame."""

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from datastill.core.options import Json
from datastill.report.folders import RunLocation, number, read_json_lines
from datastill.report.formatting import printable

MEASUREMENT = [  # everything that decides a measurement
    *("protocol", "task", "network", "source", "is_r_squared"),
    *("method", "variant", "count", "target_kind", "pretrain_steps", "set_bytes", "settings"),
    *("data", "setting", "data_fingerprint", "task_options", "artefact", "seed"),
]
VALUES = ["value", "wall_seconds", "peak_memory_bytes", "pretrain_seconds"]


def read_rows(locations: Sequence[RunLocation], problems: list[str]) -> pd.DataFrame:
    """Read all rows, one line per measurement, in an order that does not depend on the folders.

    A measurement that occurs more than once with one result counts once; one with several results
    counts once with their mean. Both are reported as problems, as are lines that are no rows.

    Returns:
        Columns `MEASUREMENT` and `VALUES`. `settings` of the networks and `task_options` are JSON
        texts of flat objects. `value` is an accuracy in percent or R², NaN without a number.
    """
    rows = []
    for location in locations:
        path = location.path / "rows.jsonl"
        for line_number, line in read_json_lines(path, problems):
            try:
                rows.append(_row(line))
            except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
                reason = f"no {error}" if isinstance(error, KeyError) else str(error)
                problems.append(f"{path}, line {line_number} is no row ({reason}), left out")
    frame = _with_common_sizes(pd.DataFrame(rows, columns=[*MEASUREMENT, *VALUES]))
    return _without_repetitions(frame, problems)


def flatten(value: Json, prefix: str = "") -> dict[str, object]:
    """Return {"method.outer_lr": 0.5} for {"method": {"outer_lr": 0.5}}; lists become JSON."""
    flat: dict[str, object] = {}
    for name, part in value.items():
        if isinstance(part, dict):
            flat |= flatten(part, f"{prefix}{name}.")
        else:
            flat[prefix + name] = json.dumps(part) if isinstance(part, list) else part
    return flat


def _row(line: Json) -> dict[str, Any]:
    accuracy, r_squared = line.get("accuracy_percent"), line.get("r_squared")
    is_r_squared = accuracy is None and (r_squared is not None or line.get("task") == "held-out-r2")
    options = {name: part or {} for name, part in (line.get("options") or {}).items()}
    settings = dict(line.get("settings") or {})
    artefact = str(line.get("artefact") or "")
    data_fingerprint = str(settings.pop("data", None) or "")
    if line["method"] == "target-model":
        settings["target"] = artefact
    elif settings.pop("distillation_seed", None) is None and "method" in settings:
        settings["artefact"] = (
            artefact  # a converted set: without a seed, no other set is a repetition
        )
    if " bytes" in str(settings.get("stored")):
        settings.pop("outputs", None)  # components, of which a budget chooses some more or fewer
    if "pretraining" in options:
        settings["pretraining"] = options["pretraining"]
    settings["steps"] = int(line.get("steps") or 0)  # of the task
    required = ("method", "data", "task", "network")
    texts = ("protocol", "source", "variant", "target_kind", "setting")
    numbers = ("count", "pretrain_steps", "set_bytes", "peak_memory_bytes")
    return {
        **{name: printable(line[name]) for name in required},
        **{name: printable(line.get(name) or "") for name in texts},
        **{name: int(line.get(name) or 0) for name in numbers},
        "seed": int(line["seed"]),
        "artefact": artefact,
        "is_r_squared": is_r_squared,
        "task_options": json.dumps(flatten(options.get("task", {})), sort_keys=True),
        "settings": json.dumps(flatten(settings), sort_keys=True),
        "data_fingerprint": data_fingerprint,
        "value": _value(r_squared if is_r_squared else accuracy),
        "wall_seconds": number(line.get("wall_seconds")),
        "pretrain_seconds": number(line.get("pretrain_seconds") or None),
    }


def _value(value: object) -> float:
    if value is not None and not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return number(value)


def _with_common_sizes(rows: pd.DataFrame) -> pd.DataFrame:
    """Give sets that differ in nothing but seeds the size of the largest.

    Files of one budget differ by a few bytes, and earlier versions counted the tensors alone. Rows
    that do not say how their set was made keep their sizes apart.
    """
    is_recorded = rows["settings"].str.contains('"distillation_precision"', regex=False)
    names = ["source", "method", "variant", "count", "target_kind", "pretrain_steps", "settings"]
    largest = rows.groupby(names)["set_bytes"].transform("max")
    return rows.assign(set_bytes=rows["set_bytes"].where(~is_recorded, largest))


def _without_repetitions(rows: pd.DataFrame, problems: list[str]) -> pd.DataFrame:
    distinct = rows.drop_duplicates([*MEASUREMENT, "value"])
    if repeated := len(rows) - len(distinct):
        verb = "row was" if repeated == 1 else "rows were"
        problems.append(f"{repeated:,} {verb} found more than once; each measurement counts once")
    is_contradicting = distinct.duplicated(MEASUREMENT, keep=False)
    if is_contradicting.any():
        groups = distinct[is_contradicting].groupby(MEASUREMENT, as_index=False)
        merged = groups.agg(
            value=("value", lambda values: values.mean(skipna=False)),
            wall_seconds=("wall_seconds", "max"),
            peak_memory_bytes=("peak_memory_bytes", "max"),
            pretrain_seconds=("pretrain_seconds", "max"),
        )
        first = merged.iloc[0]
        problems.append(
            f"{len(merged):,} measurements were found with several results, such as"
            f" {first.method} on {first.data} with seed {first.seed}; each counts once, with the"
            " mean of its results"
        )
        distinct = pd.concat([distinct[~is_contradicting], merged])
    return distinct.sort_values(MEASUREMENT, ignore_index=True)
