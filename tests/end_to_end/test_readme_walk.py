"""The commands of README's section on own images, run as they are printed, on real images."""

import csv
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

ROOT = Path(__file__).parents[2]
PACKS = ROOT.parent / "shared" / "data"
PHOTOS, TRAIN, TEST = 5000, 50, 200  # unlabelled images; labelled images of each class
NUMBER = r"-?\d+\.\d"


def write(images: np.ndarray, folder: Path) -> None:
    folder.mkdir(parents=True)
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(folder / f"{number:04d}.png")


def unpack(name: str, folder: Path) -> list[np.ndarray]:
    """Training images and labels, test images and labels, in random order."""
    subprocess.run([sys.executable, PACKS / "unpack.py", name, folder], check=True)
    arrays = []
    for split in ("train", "test"):
        images, labels = (np.load(folder / f"{split}_{x}.npy") for x in ("images", "labels"))
        order = np.random.default_rng(0).permutation(len(images))
        arrays += [images[order], labels[order]]
    return arrays


def prepare(folder: Path, scratch: Path) -> None:
    """Photos without labels and a labelled folder: CIFAR-100 and CIFAR-10, else two of digits."""
    if (PACKS / "unpack.py").is_file():
        photos = unpack("cifar100_q95", scratch / "cifar100")[0]
        train, train_labels, test, test_labels = unpack("cifar10_q95", scratch / "cifar10")
    else:
        digits = load_digits()
        images = (digits.images * 15.9).astype(np.uint8)
        photos, train, test = np.split(images, [900, 1300])
        _, train_labels, test_labels = np.split(digits.target, [900, 1300])
    write(photos[:PHOTOS], folder / "photos")
    for k in range(10):
        write(train[train_labels == k][:TRAIN], folder / "labelled" / "train" / f"class-{k}")
        write(test[test_labels == k][:TEST], folder / "labelled" / "test" / f"class-{k}")


def block(language: str) -> str:
    """The first lines of README's section in a language."""
    section = (ROOT / "README.md").read_text().partition("## On your own images")[2]
    return re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)[1]  # type: ignore[index]


@pytest.mark.slow
def test_readme__walk_on_own_images_ends_with_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path, tmp_path / "scratch")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    start = time.monotonic()
    subprocess.run(["bash", "-ec", block("bash")], cwd=tmp_path, env=environment, check=True)
    minutes = (time.monotonic() - start) / 60
    report = (tmp_path / "report" / "table.md").read_text()
    print(f"{minutes:.1f} minutes\n{report}")
    with (tmp_path / "report" / "table.csv").open() as file:
        methods = {row["method"] for row in csv.DictReader(file)}
    assert {"krr-st", "random-subset", "target-model", "scratch"} <= methods
    assert re.search(rf"\| krr-st \| 100 \|.*{NUMBER} .*{NUMBER} to {NUMBER}", report)
    shutil.copy(next((tmp_path / "photos").glob("*.png")), tmp_path / "photo.jpg")
    names: dict[str, torch.Tensor] = {}
    monkeypatch.chdir(tmp_path)
    exec(block("python"), names)
    assert names["features"].shape == (1, 4 * 4 * 128) and names["features"].isfinite().all()
    assert (tmp_path / "photos.safetensors").exists()
