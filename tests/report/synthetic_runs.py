"""Run folders as a recipe writes them, with invented numbers."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datastill.distilled_set import DistilledSet
from datastill.images import Normalizer
from datastill.report.folders import find_runs
from datastill.report.rows import read_rows
from datastill.report.tables import Cell, Line, ResultTable, result_tables

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


def write_quick(folder: Path, steps: int = 500) -> Path:
    """A whole quick run: target model, two distillations, rows."""
    _write_target(folder / "target")
    _write_distillation(folder / "krr-st", steps, stale=False)
    _write_distillation(folder / "krr-st-stale_pool", steps, stale=True)
    write_lines(folder / "rows.jsonl", _rows())
    write_lines(folder / "phases.jsonl", [phase("transfer", 41.0)])
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


def phase(name: str, seconds: float) -> dict[str, Any]:
    return {"phase": name, "wall_seconds": seconds, "peak_memory_bytes": 734_003_200}


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
    settings = [f"{k} per class, {where}" for k in (1, 5, 10) for where in ("output", "body")]
    found = []
    for (method, variant), (probe, tuned, r_squared) in levels.items():
        same = {
            "variant": variant,
            "artefact": f"{method}{variant}" if "subset" in method or "krr" in method else "",
        }
        for seed in range(5):
            for place, setting in enumerate(settings):
                level = probe * (0.62, 0.7, 1.0, 1.04, 1.15, 1.2)[place] + random.normal(0, 0.9)
                found.append(row(method, level, setting=setting, seed=seed, **same))
            tuned_here = tuned + random.normal(0, 3)
            found.append(
                row(method, tuned_here, task="finetune", setting="5 per class", seed=seed, **same)
            )
            if r_squared is not None:
                value = r_squared + random.normal(0, 0.004)
                probe_row = row(
                    method, None, r_squared=value, task="held-out-r2", seed=seed, **same
                )
                found.append(probe_row | {"data": "glyphs", "setting": ""})
    return found


def _write_target(folder: Path) -> None:
    random = np.random.default_rng(1)
    lines = [
        {"step": k, "loss": 45 * np.exp(-k / 120) + 9 + random.normal(0, 1.2)} for k in range(400)
    ]
    write_lines(folder / "metrics.jsonl", lines)
    write_lines(folder / "phases.jsonl", [phase("train target", 23.8)])
    _write_records(folder, ["datastill", "run", "quick"], "objective: barlow-twins\nsteps: 400\n")


def _write_distillation(folder: Path, steps: int, *, stale: bool) -> None:
    random = np.random.default_rng(2)
    ages = random.integers(0, 101, steps).astype(float)
    if stale:
        ages[steps // 3 :] *= random.random(steps - steps // 3) < 0.04
    lines = []
    for k in range(steps):
        loss = 0.62 * np.exp(-k / (0.22 * steps)) + 0.21 + random.gamma(2, 0.02)
        line = {
            "step": k,
            "outer_loss": loss,
            "age": ages[k],
            "learning_rate": 0.02,
            "seconds": 0.03,
        }
        if k % max(1, steps // 10) == 0 or k == steps - 1:
            line["held_out_r2"] = 0.77 - 0.24 * np.exp(-k / (0.2 * steps))
        lines.append(line)
    write_lines(folder / "metrics.jsonl", lines)
    write_lines(folder / "phases.jsonl", [phase("prepare", 1.4), phase("distill", 0.06 * steps)])
    before = _glyphs(50)
    noise = torch.randn(before.shape, generator=torch.Generator().manual_seed(3))
    distilled_set(before).save(folder / "initial.safetensors")
    distilled_set((before + 0.13 * noise).clamp(0, 1)).save(folder / "distilled.safetensors")
    text = (
        f"method:\n  name: krr-st\n  stale_pool: {str(stale).lower()}\n  pool_size: 5\ncount: 50\n"
    )
    _write_records(folder, ["datastill", "run", "quick"], text)


def _write_records(folder: Path, command: list[str], config: str) -> None:
    (folder / "config.yaml").write_text(config, "utf-8")
    environment = {
        "command": command,
        "datastill": "0.1.0",
        "git_commit": "0123abc",
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "hardware": {"cpu": "2 cores", "memory_bytes": 8_000_000_000},
    }
    (folder / "environment.json").write_text(json.dumps(environment), "utf-8")


def _glyphs(count: int) -> torch.Tensor:  # (count, 1, 16, 16) unit pixels
    """Crossing bars on grey ground: enough like letters to look at."""
    generator = torch.Generator().manual_seed(0)
    images = torch.full((count, 1, 16, 16), 0.3)
    for image in images:
        row_, column, ink = (int(v) for v in torch.randint(3, 12, (3,), generator=generator))
        image += 0.3 * torch.rand((), generator=generator)
        image[0, row_ : row_ + 2, 3:13] = ink / 12
        image[0, 2:14, column : column + 2] = ink / 12
    return images
