"""The command pretrain: networks on disk, the same ones that transfer trains, taken by transfer."""

import json
from pathlib import Path

import pytest
from commands import NETWORK, Command

import datastill as ds

STEPS = ("--steps", "3", "--network", "convnet:4,8")


@pytest.fixture
def networks(datastill: Command, runs: Path, tmp_path: Path) -> Path:
    words = ("pretrain", runs / "set", *STEPS, "--seeds", "2", "--out", tmp_path / "networks")
    done = datastill(*words)
    assert done.code == 0, done.err
    assert done.out.splitlines() == [
        str(tmp_path / f"networks/network-{n}.safetensors") for n in (0, 1)
    ]
    assert "network, transform = datastill.load_network(" in done.err
    return tmp_path / "networks"


def accuracies(folder: Path) -> list[float]:
    lines = (folder / "rows.jsonl").read_text().splitlines()
    return [json.loads(line)["accuracy_percent"] for line in lines]


def test_pretrain__makes_the_networks_that_transfer_makes(
    datastill: Command, networks: Path, runs: Path, photos: Path, tmp_path: Path
) -> None:
    task = ("--to", f"folder:{photos}", "--seeds", "2", "--linear-probe.steps", "3")
    words = (runs / "set", *task, *NETWORK, "--pretrain-steps", "3", "--keep-networks")
    assert datastill("transfer", *words, "--out", tmp_path / "a").code == 0
    assert datastill("transfer", networks, *task, "--out", tmp_path / "b").code == 0
    for kept in (tmp_path / "a/networks").glob("*/*"):
        assert kept.read_bytes() == (networks / kept.name).read_bytes()
    assert accuracies(tmp_path / "a") == accuracies(tmp_path / "b")
    assert datastill("show", networks / "network-1.safetensors").out.count("seed: 1") == 1


def test_pretrain__resumes_with_the_networks_that_are_missing(
    datastill: Command, networks: Path, runs: Path
) -> None:
    before = (networks / "network-1.safetensors").read_bytes()
    (networks / "network-1.safetensors").unlink()
    assert datastill("pretrain", "--resume", "--out", networks).code == 0
    assert (networks / "network-1.safetensors").read_bytes() == before
    assert ds.PretrainedNetwork.load(networks / "network-0.safetensors").image_size == 16


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--network resnet10 --seeds 2", "has networks of ConvNet(widths=(4, 8)"),
        ("--pretrain-steps 3 --seeds 2", "has networks that are pre-trained already"),
        ("--protocol mkdt --seeds 2", "has networks that are pre-trained already"),
        ("--seeds 3", "has networks of the seeds 0, 1, and --seeds 3 needs 2 too"),
        ("--image-size 20", "image sizes differ"),
    ],
)
def test_transfer__flags_that_contradict_the_networks_are_refused(
    datastill: Command, networks: Path, photos: Path, tmp_path: Path, words: str, message: str
) -> None:
    to = ("--to", f"folder:{photos}", "--out", tmp_path / "out")
    done = datastill("transfer", networks, *words.split(), *to)
    assert done.code == 2 and message in done.err
    assert not (tmp_path / "out").exists()


def test_transfer__network_without_its_set_is_refused(
    datastill: Command, photos: Path, tmp_path: Path
) -> None:
    network = ds.ConvNet(widths=(4,))(image_size=16, channels=3, outputs=5)
    saved = ds.PretrainedNetwork(network, ds.Normalizer((0.5,) * 3, (0.2,) * 3))
    saved.save(tmp_path / "network-0.safetensors")
    to = ("--to", f"folder:{photos}", "--out", tmp_path / "out")
    done = datastill("transfer", tmp_path, *to)
    assert done.code == 2 and "does not say which set" in done.err
    assert not (tmp_path / "out").exists()
