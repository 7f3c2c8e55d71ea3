"""Every objective and the monitor by command; that each learns real features is a slow test."""

import json
from pathlib import Path

import pytest
from commands import NETWORK, Command

from datastill.augment.views import TwoViews
from datastill.core.lookup import find, names
from datastill.core.machine import Machine
from datastill.core.rng import seeded
from datastill.data.source import source
from datastill.networks.convnet import ConvNet
from datastill.ops.optimizers import AdamW
from datastill.target_monitor import TargetMonitor
from datastill.train_target import TargetTraining, train_target

OBJECTIVES = names("datastill.objectives")
SMALL = ("--image-size", "8", *NETWORK, "--outputs", "6", "--steps", "4", "--batch", "16")


def logged(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_target__trains_with_any_objective(
    name: str, datastill: Command, photos: Path, tmp_path: Path
) -> None:
    words = ("target", "--data", f"folder:{photos}", *SMALL, "--monitor-every", "2")
    projector = () if name == "supervised" else ("--objective.projector", "8,6")
    out = tmp_path / "target"
    done = datastill(*words, "--objective", name, *projector, "--out", out)
    assert done.code == 0, done.err
    looks = [line for line in logged(out) if "monitor_knn_percent" in line]
    assert [line["step"] for line in looks] == [1, 3]
    assert all(0 <= line["monitor_linear_percent"] <= 100 for line in looks)


def test_target__monitor_of_unlabelled_images_without_a_test_split_says_so(
    datastill: Command, photos: Path, tmp_path: Path
) -> None:
    words = ("target", "--data", f"folder:{photos / 'cat'}", *SMALL, "--monitor-every", "4")
    out = tmp_path / "target"
    done = datastill(*words, "--objective.projector", "none", "--out", out)
    assert done.code == 0 and "the monitor tests on images that are trained on" in done.err
    assert logged(out)[-1].keys() >= {"monitor_rank", "monitor_spread"}


HEADS = {
    "barlow-twins": {"projector": (256, 256)},
    "vicreg": {"projector": (256, 256)},
    "simclr": {"projector": (128, 64), "temperature": 0.2},
    "byol": {"projector": (256, 64), "predictor": (256,), "tau": 0.97},
    "supervised": {},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective__sees_more_in_digits_than_a_random_network(
    name: str, tmp_path: Path
) -> None:
    """k-NN accuracy on digits that were not trained on; BYOL takes longest to leave its start."""
    steps = 600 if name == "byol" else 200
    digits = source("digits").load("train")
    monitor = TargetMonitor(digits, source("digits").load("test"), every_steps=steps)
    views = TwoViews(0.6, 0.0, 10.0, 0.05, grayscale=0.0, invert=0.5, noise_std=0.03)
    training = TargetTraining(
        ConvNet(widths=(16, 32, 64)),
        outputs=64,
        objective=find("datastill.objectives", name)(**HEADS[name]),
        views=views,
        optimizer=AdamW(lr=2e-3, weight_decay=1e-4),
        batch=128,
        steps=steps,
    )
    with seeded(0, "target-model"):
        untrained = training.architecture(image_size=16, channels=1, outputs=64)
    before = monitor.evaluate(untrained, Machine())["monitor_knn_percent"]
    train_target(digits, training, folder=tmp_path, monitor=monitor)
    after = logged(tmp_path)[-1]["monitor_knn_percent"]
    assert after > before + 10, f"{name}: {before:.1f} % before, {after:.1f} % after"
