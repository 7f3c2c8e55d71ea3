"""Run folders as a recipe writes them, with invented numbers."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datastill.distilled_set import DistilledSet
from datastill.images import Normalizer
from datastill.report.arrange import result_tables
from datastill.report.folders import find_runs
from datastill.report.rows import read_rows
from datastill.report.tables import Cell, Line, ResultTable

NETWORK = "convnet(widths=[32, 64, 128])"


def row(method: str, accuracy: float | None = None, **changes: Any) -> dict[str, Any]:
    """One line of rows.jsonl."""
    plain = {
        "method": method,
        "variant": "",
        "count": 0 if method in ("scratch", "target-model", "full-source") else 50,
        "source": "glyphs",
        "data": "digits",
        "task": "linear-probe",
        "setting": "5 per class, output",
        "network": NETWORK,
        "seed": 0,
        "accuracy_percent": accuracy,
        "r_squared": None,
        "steps": 200,
        "wall_seconds": 1.2,
        "peak_memory_bytes": 412_000_000,
        "artefact": "",
        "versions": {"torch": "2.13.0"},
    }
    return plain | changes


def write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def write_quick(folder: Path, steps: int = 60) -> Path:
    """A complete quick run: target model, a distillation, rows."""
    noise = np.random.default_rng(1).random(steps)
    target = [{"step": k, "loss": 9 + 45 / (1 + k) + noise[k]} for k in range(steps)]
    _write_run(folder / "target", target, "objective: barlow-twins\nsteps: 400\n")
    lines = [
        {"step": k, "outer_loss": 0.2 + 1 / (1 + k), "age": k % 7, "seconds": 0.03}
        | ({"held_out_r2": 0.5 + 0.2 * k / steps} if k % 10 == 0 else {})
        for k in range(steps)
    ]
    _write_run(folder / "krr-st", lines, "method:\n  name: krr-st\n  pool_size: 5\ncount: 50\n")
    for name in ("initial", "distilled"):
        distilled_set(torch.rand(50, 1, 16, 16)).save(folder / "krr-st" / f"{name}.safetensors")
    write_lines(folder / "rows.jsonl", _rows())
    return folder


def arranged(folder: Path, lines: Sequence[dict[str, Any]]) -> list[ResultTable]:
    """The tables of these rows."""
    write_lines(folder / "rows.jsonl", lines)
    return result_tables(read_rows(find_runs([folder], []), []))


def only_table(folder: Path, lines: Sequence[dict[str, Any]]) -> ResultTable:
    (table,) = arranged(folder, lines)
    return table


def line_of(table: ResultTable, label: str) -> Line:
    (line,) = (line for line in table.lines if table.label(line) == label)
    return line


def cell_of(table: ResultTable, label: str) -> Cell:
    """The first cell of a line."""
    return table.cells[line_of(table, label), table.columns[0]]


def seeds(method: str, *values: float, **changes: Any) -> list[dict[str, Any]]:
    """Rows of seeds 0, 1, ..."""
    return [row(method, value, seed=seed, **changes) for seed, value in enumerate(values)]


def distilled_set(images: torch.Tensor, method: str = "krr-st") -> DistilledSet:
    targets = torch.zeros(len(images), 4)
    provenance = {"method": {"name": method}, "seed": 0}
    statistics = Normalizer((0.5,) * images.shape[1], (0.25,) * images.shape[1])
    return DistilledSet(images, targets, "representation", "unit", statistics, provenance)


def _rows() -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    levels = {  # method, variant: linear probe, fine-tuning, held-out R²
        ("scratch", ""): (16.9, 33.0, 0.0),
        ("random-subset", ""): (36.7, 46.0, 0.53),
        ("random-subset", "targets=class-label"): (24.2, 38.0, None),
        ("krr-st", ""): (49.9, 52.4, 0.75),
        ("krr-st", "stale_pool"): (45.7, 51.9, 0.71),
        ("full-source", ""): (67.3, 66.2, 0.95),
        ("target-model", ""): (73.5, 71.0, None),
    }
    settings = [f"{k} per class, {features}" for k in (1, 5, 10) for features in ("output", "body")]
    rows = []
    for (method, variant), (probe, tuned, r_squared) in levels.items():
        is_set = method in ("random-subset", "krr-st")
        same = {"variant": variant, "artefact": f"{method}{variant}" if is_set else ""}
        for seed in range(5):
            same |= {"seed": seed}
            rows += [row(method, probe + random.normal(), setting=s, **same) for s in settings]
            accuracy = tuned + random.normal(0, 3)
            rows.append(row(method, accuracy, task="finetune", setting="5 per class", **same))
            if r_squared is not None:
                value = r_squared + random.normal(0, 0.004)
                held_out = {"task": "held-out-r2", "data": "glyphs", "setting": ""}
                rows.append(row(method, None, r_squared=value, **held_out, **same))
    return rows


def _write_run(folder: Path, metrics: list[dict[str, Any]], config: str) -> None:
    write_lines(folder / "metrics.jsonl", metrics)
    cost = {"phase": "train", "wall_seconds": 23.8, "peak_memory_bytes": 734_003_200}
    write_lines(folder / "phases.jsonl", [cost])
    (folder / "config.yaml").write_text(config, "utf-8")
    environment = {"command": ["datastill", "run", "quick"], "git_commit": "0123abc"}
    (folder / "environment.json").write_text(json.dumps(environment), "utf-8")
