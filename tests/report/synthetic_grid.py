"""Rows of a complete table 1 with figure 3 and a sweep, with invented numbers."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from synthetic_runs import row, write_lines

DATA = ("cifar100", "cifar10", "aircraft", "cars", "cub", "dogs", "flowers")
METHODS = {  # method, variant: target kind
    ("scratch", ""): "",
    ("random-subset", ""): "representation",
    ("random-subset", "targets=class-label"): "hard-label",
    ("k-means", ""): "hard-label",
    ("dsa", ""): "hard-label",
    ("dm", ""): "hard-label",
    ("mtt", ""): "hard-label",
    ("kip", ""): "soft-label",
    ("frepo", ""): "soft-label",
    ("krr-st", ""): "representation",
}
SETS = {  # target kind: updates of pre-training, bytes of an image with its target
    "hard-label": (4000, 12_296),
    "soft-label": (10_000, 12_688),
    "representation": (4000, 14_336),
}


def table_1() -> list[dict[str, Any]]:
    """9 methods (random images twice) on 7 target data, 3 seeds, one network: 210 rows."""
    return list(_rows("paper", "convnet", METHODS))


def whole_grid() -> list[dict[str, Any]]:
    """Table 1, two protocols, four networks, and pre-training of 5 to 500 epochs."""
    few = {key: METHODS[key] for key in METHODS if key[0] in ("scratch", "krr-st", "mtt")}
    few[("random-subset", "")] = METHODS["random-subset", ""]
    rows = table_1()
    for network in ("vgg11", "alexnet", "mobilenet"):
        rows += _rows("paper", network, few)
    probe = {"task": "linear-probe", "setting": "1%"}
    for setting in ("1%", "5%"):
        rows += _rows("mkdt", "convnet", METHODS, **probe | {"setting": setting}, steps=80)
    for epochs in (5, 100, 500):
        rows += _rows(f"mkdt, {epochs} epochs", "convnet", few, **probe, steps=4 * epochs)
    return rows


def write_grid(folder: Path, rows: list[dict[str, Any]]) -> Path:
    write_lines(folder / "rows.jsonl", rows)
    return folder


def _rows(
    protocol: str,
    network: str,
    methods: Mapping[tuple[str, str], str],
    *,
    steps: int = 0,
    **changes: Any,
) -> Iterator[dict[str, Any]]:
    random = np.random.default_rng(len(protocol) + len(network) + steps)
    for (method, variant), target_kind in methods.items():
        count = 1000 if target_kind else 0
        updates, bytes_per_image = SETS.get(target_kind, (0, 0))
        for data in DATA:
            for seed in range(3):
                plain = {"task": "finetune", "setting": "all labels"}
                yield row(
                    method,
                    random.uniform(20, 90),
                    variant=variant,
                    count=count,
                    source="cifar100",
                    data=data,
                    network=network,
                    seed=seed,
                    artefact=f"{method}{variant}{seed}" if count else "",
                    protocol=protocol,
                    target_kind=target_kind,
                    set_bytes=count * bytes_per_image,
                    pretrain_steps=(steps or updates) if count else 0,
                    **plain | changes,
                )
