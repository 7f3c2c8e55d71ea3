"""The Python API as the README shows it."""

import re
from pathlib import Path

import pytest
from torch import nn

import datastill as ds

README = Path(__file__).parents[2] / "README.md"
NETWORK = ds.ConvNet(widths=(4, 8))


@pytest.fixture
def images(photos: Path) -> ds.ImageSet:
    return ds.source(f"folder:{photos}").load("train", image_size=16)


def test_api__ten_lines_of_the_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = README.read_text(encoding="utf-8").partition("## Python\n")[2]
    block = section.partition("```python\n")[2].partition("```")[0]
    short = re.sub(r"(steps|max_age)=\d+", r"\1=2", block)
    monkeypatch.chdir(tmp_path)
    exec(compile(short, str(README), "exec"), {})
    assert "TaskResult(setting='5-per-class, output', accuracy_percent=" in capsys.readouterr().out
    assert len(ds.DistilledSet.load("runs/glyphs")) == 50
    assert ds.TargetModel.load("targets/glyphs").dim == 64


def test_api__finetune_needs_no_more_than_a_network(photos: Path) -> None:
    network = NETWORK(image_size=16, channels=3, outputs=6)
    (result,) = ds.Finetune(steps=1, batch=8).run(network, f"folder:{photos}", seed=1)
    assert result.accuracy_percent is not None


def test_api__any_module_is_a_target_model(images: ds.ImageSet) -> None:
    module = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(48, 5))
    target = ds.TargetModel(module, images.normalizer, images.image_size)
    problem = ds.Problem(images, target, count=4, network=NETWORK)
    distilled = ds.distill(ds.KRRST(outer_steps=2, outer_batch=8, pool_size=2), problem)
    assert distilled.targets.shape == (4, 5)
    assert not any(p.requires_grad for p in module.parameters())


def test_api__folder_keeps_and_continues_a_run(images: ds.ImageSet, tmp_path: Path) -> None:
    training = ds.TargetTraining(NETWORK, outputs=6, steps=2, batch=16)
    target = ds.train_target(images, training, folder=tmp_path / "target")
    again = ds.train_target(images, training, folder=tmp_path / "target")
    assert again.fingerprint == target.fingerprint
    problem = ds.Problem(images, target, count=4, network=NETWORK)
    distilled = ds.distill(ds.RandomSubset(), problem, folder=str(tmp_path / "set"))
    assert ds.DistilledSet.load(tmp_path / "set").fingerprint == distilled.fingerprint
    with pytest.raises(ds.DatastillError, match="seed: 0, now 1"):
        other = ds.Problem(images, target, count=4, network=NETWORK, seed=1)
        ds.distill(ds.RandomSubset(), other, folder=tmp_path / "set")
