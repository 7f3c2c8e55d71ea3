"""Arrange rows into result tables: what is averaged, and which options tell lines apart."""

import json
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import fields, replace

import pandas as pd

from datastill.report import formatting
from datastill.report.formatting import FULL_SOURCE, natural_sort_key
from datastill.report.tables import Cell, Column, Line, ResultTable

FINGERPRINTS = (
    "source",
    "target",
    "artefact",
    "outputs",
    "set_bytes",
)  # shown only where nothing else differs
TABLE = ["protocol", "task", "network", "source", "is_r_squared"]
LINE, COLUMN = ([part.name for part in fields(key)] for key in (Line, Column))


def result_tables(
    rows: pd.DataFrame, seconds: Mapping[str, float] | None = None
) -> list[ResultTable]:
    """Arrange rows into tables, in the order of protocols, tasks, networks and sources.

    Rows are averaged only where nothing but seeds differs. Lines, columns and tables that would
    look the same show as few of the options in which they differ as are needed.

    Args:
        rows: From `read_rows`.
        seconds: What it took to make distilled sets, by fingerprint, where known.
    """
    is_full = rows["method"] == FULL_SOURCE
    of_set = rows["artefact"].map(seconds or {}).astype(float).where(~is_full, 0.0)
    rows = rows.assign(minutes=(of_set + rows["pretrain_seconds"]) / 60)
    groups = _replicate_reference_rows(rows).groupby(TABLE)
    tables = [_table(part) for _, group in groups for part in _split(group)]
    tables.sort(key=_table_order)
    options = [json.loads(table.columns[0].task_options) for table in tables]
    texts = differing_options([table.heading for table in tables], options)
    return [replace(table, differing=text) for table, text in zip(tables, texts, strict=True)]


def differing_options(
    labels: Sequence[Hashable], options: Sequence[dict[str, object]]
) -> list[str]:
    """Choose, for members of one label, as few options as distinguish them.

    Args:
        labels: Shown in any case.
        options: All flat options of each.

    Returns:
        Texts such as "outer_lr=0.5", "" where the label suffices.

    Example:
        >>> differing_options(["a", "a", "b"], [{"x.lr": 1, "n": 2}, {"x.lr": 3, "n": 2}, {}])
        ['lr=1', 'lr=3', '']
    """
    texts = [""] * len(labels)
    for label in set(labels):
        members = [k for k, other in enumerate(labels) if other == label]
        keys = _separating_keys([options[k] for k in members])
        for k in members:
            texts[k] = ", ".join(_option_text(key, options[k]) for key in keys)
    return texts


def _separating_keys(options: Sequence[dict[str, object]]) -> list[str]:
    """Choose keys greedily until they distinguish as many members as all keys do."""

    def num_groups(keys: Sequence[str]) -> int:
        return len({json.dumps([one.get(key, "missing") for key in keys]) for one in options})

    # options of the method first, fingerprints last
    candidates = sorted(
        {key for one in options for key in one},
        key=lambda key: (not key.startswith("method."), key in FINGERPRINTS, key),
    )
    keys: list[str] = []
    while num_groups(keys) < num_groups(candidates):
        keys.append(max(candidates, key=lambda key: num_groups([*keys, key])))
    return keys


def _option_text(key: str, options: dict[str, object]) -> str:
    name = key if key.startswith("pretraining.") else key.rpartition(".")[2]
    if key not in options:
        return f"{name} not recorded"
    value = str(options[key])
    return f"{name}={value[:8] if re.fullmatch('[0-9a-f]{64}', value) else value}"


def _split(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Split rows by the options of their task and by setting, where a table would mix them up."""
    keys = []
    if rows.groupby("setting")["task_options"].nunique().max() > 1:
        keys.append("task_options")
    if rows["data"].nunique() > 1:
        keys.append("setting")
    return [part for _, part in rows.groupby(keys)] if keys else [rows]


def _table(rows: pd.DataFrame) -> ResultTable:
    cells = {}
    means = rows.groupby(LINE, as_index=False)["minutes"].mean()
    minutes = {Line(*key): mean for *key, mean in means.itertuples(index=False)}
    for _, group in rows.groupby([*LINE, *COLUMN]):
        first = group.iloc[0].to_dict()
        line, column = Line(*(first[k] for k in LINE)), Column(*(first[k] for k in COLUMN))
        group = group.sort_values(["seed", "artefact"])
        sets = len(set(group["artefact"]) - {""})
        cells[line, column] = Cell(tuple(group["seed"]), tuple(group["value"]), sets)
    table = ResultTable(**{key: rows[key].iloc[0] for key in TABLE}, cells=cells)
    visible = list(zip((line.name for line in table.lines), *table.details.values(), strict=True))
    lines = differing_options(visible, [line.options for line in table.lines])
    data: list[dict[str, object]] = [{"data": c.data_fingerprint} for c in table.columns]
    columns = differing_options([table.label(column) for column in table.columns], data)
    suffixes: dict[Line | Column, str] = dict(zip(table.lines, lines, strict=True))
    suffixes |= dict(zip(table.columns, columns, strict=True))
    return replace(table, suffixes=suffixes, minutes=minutes)


def _table_order(table: ResultTable) -> tuple[object, ...]:
    column = table.columns[0]
    first = formatting.protocol_order(table.protocol), formatting.task_order(table.task)
    names = natural_sort_key(table.network), natural_sort_key(table.source), table.is_r_squared
    return *first, *names, column.task_options, natural_sort_key(column.setting)


def _replicate_reference_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Copy references into every table that they are a reference for.

    The target model is an upper reference for every network that learned from it; a network from
    scratch that names no source is a lower reference for every source.
    """
    is_target = rows["method"] == "target-model"
    is_scratch = (rows["method"] == "scratch") & (rows["source"] == "")
    learned = ~rows["method"].isin(["target-model", "scratch"])
    tables = rows.loc[learned, ["protocol", "source", "network"]].drop_duplicates()

    suffixes = ("", "_of_table")
    target = rows[is_target].merge(tables, "left", ["protocol", "source"], suffixes=suffixes)
    network = target["network_of_table"].fillna(target["network"])
    is_named = (target["variant"] != "") | (network == target["network"])
    variant = target["variant"].where(is_named, target["network"])
    target = target.assign(variant=variant, network=network)

    scratch = rows[is_scratch].merge(tables, "left", ["protocol", "network"], suffixes=suffixes)
    scratch = scratch.assign(source=scratch["source_of_table"].fillna(""))
    return pd.concat([rows[~is_target & ~is_scratch], target, scratch])[rows.columns]
