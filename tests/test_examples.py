"""The scripts in examples/ run as they stand, on handwritten digits in class folders."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from test_export import pretrained

import datastill as ds
from datastill.networks.convnet import ConvNet
from datastill.networks.resnet18 import ResNet18

EXAMPLES = Path(__file__).parents[1] / "examples"
LINES = 15


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photos in class folders, and networks, where the examples look for them."""
    digits = load_digits()
    for number in range(100):
        file = tmp_path / f"photos/{digits.target[number]}/{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[number] * 15).astype("uint8")).save(file)
    mine = pretrained(ConvNet(widths=(8, 16)), size=16)
    mine.save(tmp_path / "networks/mine/network-0.safetensors")
    return tmp_path


def run(example: str, folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, str(EXAMPLES / example)]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_examples__a_loop_fine_tunes_on_a_folder(folder: Path) -> None:
    run("finetune_folder.py", folder)
    network, transform = ds.load_network(folder / "networks/mine")
    network.head = torch.nn.Linear(network.num_features, 10)
    network.load_state_dict(torch.load(folder / "finetuned.pt", weights_only=True))
    files = sorted((folder / "photos").glob("*/*.png"))
    images = torch.stack([transform(Image.open(file)) for file in files])
    labels = torch.tensor([int(file.parent.name) for file in files])
    assert (network.eval()(images).argmax(1) == labels).float().mean() > 0.9


def test_examples__timm_gives_the_same_outputs(folder: Path) -> None:
    if importlib.util.find_spec("timm") is None:
        pytest.skip("needs timm")
    trained = pretrained(ResNet18(stem="large"))
    trained.save(folder / "networks/resnet18/network-0.safetensors")
    ds.export_network(folder / "networks/resnet18", folder / "resnet18.safetensors")
    assert float(run("use_timm.py", folder).split(":")[1]) < 1e-5
    start = torch.load(folder / "start.pt", weights_only=True)
    assert start["fc.weight"].shape == (10, 512)
    assert torch.equal(
        start["conv1.weight"], load_file(folder / "resnet18.safetensors")["conv1.weight"]
    )


def test_examples__lightning_fine_tunes(folder: Path) -> None:
    if importlib.util.find_spec("lightning") is None:
        pytest.skip("needs lightning")
    run("use_lightning.py", folder)
    (file,) = folder.rglob("*.ckpt")
    before, _ = ds.load_network(folder / "networks/mine")
    after = torch.load(file, weights_only=True)["state_dict"]
    assert not torch.equal(after["network.body.0.weight"], before.body[0].weight)


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.name)
def test_examples__are_short(file: Path) -> None:
    code = file.read_text(encoding="utf-8").split('"""')[2].splitlines()
    assert len([line for line in code if line.strip() and line[0] != "#"]) <= LINES
