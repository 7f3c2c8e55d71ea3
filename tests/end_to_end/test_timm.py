"""timm:NAME on the command line, as target model and as transfer network."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from commands import METHOD, NETWORK, Command
from safetensors.torch import save_file
from timm_here import timm_or_skip

from datastill.distilled_set import DistilledSet
from datastill.target_model import TargetModel


@pytest.fixture
def timm() -> Any:
    return timm_or_skip()


@pytest.fixture
def word(timm: Any, tmp_path: Path) -> str:
    """A network of timm whose weights are on disk, as they are once they were downloaded."""
    torch.manual_seed(0)
    timm.models.save_for_hf(timm.create_model("test_resnet"), tmp_path / "public")
    return f"timm:local-dir:{tmp_path / 'public'}"


def test_distill__target_model_of_timm(
    word: str, timm: Any, datastill: Command, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ("--target", word, "--count", "5", *METHOD, *NETWORK, "--image-size", "16")
    done = datastill("distill", "--data", f"folder:{photos}", *words, "--out", out)
    target = TargetModel.from_timm(word.removeprefix("timm:"), image_size=16)
    assert done.code == 0, done.err
    assert f"of timm {timm.__version__}" in done.err and target.fingerprint in done.err
    distilled = DistilledSet.load(out)
    assert distilled.outputs == target.dim
    assert distilled.provenance["target"]["fingerprint"] == target.fingerprint
    held_out = ("--held-out", f"folder:{photos}", "--target", word, "--pretrain-steps", "2")
    few = ("--seeds", "1", "--linear-probe.steps", "2")
    outcome = datastill("transfer", out, "--to", f"folder:{photos}", *held_out, *few)
    assert outcome.code == 0 and "R²" in outcome.out, outcome.err


def test_transfer__network_of_timm(
    timm: Any, datastill: Command, photos: Path, tmp_path: Path
) -> None:
    words = ("--to", f"folder:{photos}", "--network", "timm:test_resnet", "--image-size", "16")
    few = ("--seeds", "1", "--linear-probe.steps", "2", "--out", tmp_path / "out")
    done = datastill("transfer", "scratch", *words, *few)
    assert done.code == 0, done.err
    config = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert config["network"] == {"name": "timm", "model": "test_resnet", "enlarge_to": None}
    assert "timm(model=test_resnet)" in (tmp_path / "out" / "rows.jsonl").read_text()


def test_transfer__from_public_weights_of_timm(
    word: str, datastill: Command, photos: Path, tmp_path: Path
) -> None:
    words = ("--to", f"folder:{photos}", "--image-size", "16", "--seeds", "1")
    few = ("--linear-probe.steps", "2", "--out", tmp_path / "out")
    done = datastill("transfer", word, *words, *few)
    assert done.code == 0, done.err
    target = TargetModel.from_timm(word.removeprefix("timm:"), image_size=16)
    row = json.loads((tmp_path / "out" / "rows.jsonl").read_text().splitlines()[0])
    assert row["method"] == "target-model" and row["artefact"] == target.fingerprint


def test_target__weights_of_a_file_in_place_of_training(
    timm: Any, datastill: Command, photos: Path, tmp_path: Path
) -> None:
    file, out = tmp_path / "mine.safetensors", tmp_path / "out"
    save_file(timm.create_model("test_resnet").state_dict(), file)
    words = ("--network", "timm:test_resnet", "--network.enlarge_to", "48", "--weights", file)
    data = ("--data", f"folder:{photos}", "--image-size", "16", "--out", out)
    done = datastill("target", *data, *words, "--standardize", "true")
    assert done.code == 0, done.err
    target = TargetModel.load(out)
    plain = TargetModel.from_timm("test_resnet", image_size=16, weights=file, enlarge_to=48)
    assert target.provenance["timm"] == plain.provenance["timm"]
    assert target.dim == plain.dim and target.offset.numel() == target.dim
    assert datastill("target", "--out", out, "--resume").code == 0
    save_file(timm.create_model("test_resnet").state_dict(), file)
    other = datastill("target", "--out", out, "--resume")
    assert other.code == 2 and "target model" in other.err
    assert TargetModel.load(out).fingerprint == target.fingerprint
