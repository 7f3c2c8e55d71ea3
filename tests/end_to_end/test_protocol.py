"""datastill transfer --protocol: a sweep, its resumption, and contradictions."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import NETWORK, Command

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


@pytest.mark.parametrize(
    "words",
    [
        "--task finetune",
        "--task linear-probe",
        "--network convnet",
        "--network.widths 4,8",
        "--pretrain-steps 3",
        "--linear-probe.l2 1",
        "--data-free-kd.epochs 3",
    ],
)
def test_cli__what_contradicts_a_protocol_is_refused(
    words: str, datastill: Command, tmp_path: Path
) -> None:
    base = ("transfer", "scratch", "--to", "digits", "--protocol", "mkdt", "--out", tmp_path / "o")
    outcome = datastill(*base, *words.split())
    flag = words.split()[0]
    assert outcome.code == 2 and not (tmp_path / "o").exists()
    assert f"{flag} contradicts --protocol mkdt, which fixes it" in outcome.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--protocol mkd", "did you mean 'mkdt'?"),
        ("--protocol mkdt --pretrain-epochs 0", "expected at least 1"),
        ("--protocol mkdt --pretrain-epochs 20,x", "whole numbers, separated by commas"),
        ("--pretrain-epochs 20,100", "a sweep of a protocol; pass --protocol too"),
        ("--pretrain-epochs 20 --pretrain-steps 5", "leave one of them out"),
    ],
)
def test_cli__protocol_without_sense_is_refused(
    words: str, message: str, datastill: Command, runs: Path, tmp_path: Path
) -> None:
    base = ("transfer", runs / "set", "--to", "digits", "--out", tmp_path / "o")
    outcome = datastill(*base, *words.split())
    assert outcome.code == 2 and message in outcome.err and not (tmp_path / "o").exists()


def test_cli__target_model_has_no_images_to_distil_with(
    datastill: Command, runs: Path, photos: Path, tmp_path: Path
) -> None:
    words = ("--to", f"folder:{photos}", "--task", "data-free-kd", "--out", tmp_path / "o")
    outcome = datastill("transfer", runs / "target", *words)
    assert outcome.code == 2 and "give distilled sets, or scratch" in outcome.err
    assert not (tmp_path / "o").exists()


def test_cli__protocol_is_shown_whole(datastill: Command) -> None:
    text = datastill("list", "protocols", "mkdt").out
    assert "weight_decay: 0.0001" in text and "5%-at-random" in text


def test_cli__task_without_options_is_a_task_like_any_other(
    datastill: Command, photos: Path, tmp_path: Path
) -> None:
    data = f"folder:{photos}"
    words = ("distill", "--method", "random-subset", "--method.targets", "class-label", *NETWORK)
    words += ("--data", data, "--image-size", "16", "--count", "4")
    assert datastill(*words, "--out", tmp_path / "set").code == 0
    words = ("transfer", tmp_path / "set", "scratch", "--to", data, "--task", "classify")
    done = datastill(*words, "--seeds", "1", "--pretrain-steps", "2", "--out", tmp_path / "rows")
    assert done.code == 0, done.err
    assert [(row["method"], row["task"]) for row in rows(tmp_path / "rows")] == [
        ("random-subset", "classify"),
        ("scratch", "classify"),
    ]
