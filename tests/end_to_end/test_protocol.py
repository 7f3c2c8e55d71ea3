"""datastill transfer --protocol: a sweep and its resumption."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import Command

from datastill.networks.convnet import ConvNet
from datastill.protocols import mkdt
from datastill.transfer.linear_probe import LinearProbe


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """MKDT's protocol with a network and a probe that take no time."""
    probe = LinearProbe(labels=("1-per-class",), steps=2)
    tiny = replace(mkdt.PROTOCOL, networks=((32, ConvNet(widths=(4, 8))),), tasks=(probe,))
    monkeypatch.setattr(mkdt, "PROTOCOL", tiny)


def test_cli__protocol_decides_on_network_pre_training_and_tasks(
    datastill: Command, runs: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    words = ("transfer", runs / "set", "scratch", runs / "target", "--to", f"folder:{photos}")
    words += ("--seeds", "1", "--protocol", "mkdt", "--pretrain-epochs", "20,1,1")
    done = datastill(*words, "--out", tmp_path / "rows")
    assert done.code == 0, done.err
    assert [(r["method"], r["protocol"], r["pretrain_steps"]) for r in rows(tmp_path / "rows")] == [
        ("krr-st", "mkdt", 20),
        ("krr-st", "mkdt, 1 epochs", 1),
        ("scratch", "mkdt", 0),
        ("target-model", "mkdt", 0),
    ]
    resumed = datastill("transfer", "--resume", "--out", tmp_path / "rows")
    assert (resumed.code, resumed.out) == (0, done.out), resumed.err
    assert len(rows(tmp_path / "rows")) == 4
