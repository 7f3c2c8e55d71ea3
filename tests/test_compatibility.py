"""Files of commit 41354f4 (0.1.0) load and have the fingerprints that it printed.

`compatibility/` has the run folders of a target model and of a finished run of KRR-ST, both on the
first 60 digits of 8 pixels.
"""

import shutil
from pathlib import Path

import pytest
import torch

from datastill.data.digits import Digits
from datastill.distill import distill
from datastill.distilled_set import DistilledSet
from datastill.images import ImageSet
from datastill.methods.krr_st import KRRST
from datastill.networks.convnet import ConvNet
from datastill.objectives.barlow_twins import BarlowTwins
from datastill.problem import Problem
from datastill.target_model import TargetModel
from datastill.train_target import TargetTraining, train_target
from datastill.transfer.rows import read_rows

OLD = Path(__file__).parent / "compatibility"
RECORD = Path(__file__).parents[1] / "benchmarks" / "records" / "2026-11-22-quick-2core"
TARGET = "444453ac5d86d379ae36988af5a3c552cd455e366fe0271f6a562c1ebbd69ff5"
DISTILLED = "120fc2697ce27ef4f6f613a06faceb9120b10c4de92eb7a6cfcd91459e09c43d"
RECORDED = "d9ba4b8f6d6ee7548aff996ee986039145c5a27dca3c66bc738ffe561ceeb77b"
CODED = "c2e7af4681693aa34afb57e12712aa1dfc38060a2c303f01bdfec8d333a009d1"  # of format version 2
REPRESENTATIONS = [  # of the first two images
    [-0.598095715045929, -0.979141116142273, -0.5836616158485413, 0.6266940832138062,
     0.13066349923610687],
    [0.34939950704574585, 0.34651628136634827, -0.07052578032016754, 0.540584921836853,
     -0.15214940905570984],
]  # fmt: skip
NETWORK = ConvNet(widths=(4, 8))
KRR_ST = KRRST(outer_steps=3, outer_batch=20, pool_size=1, max_age=2, outer_lr=0.01, crop_padding=1)


@pytest.fixture
def images() -> ImageSet:
    return Digits().load("train", 8, None).take(torch.arange(60))


@pytest.fixture
def problem(images: ImageSet) -> Problem:
    return Problem(images, TargetModel.load(OLD / "target"), 4, network=NETWORK)


def copied(folder: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD / folder, tmp_path / folder))


def test_compatibility__target_model_loads(images: ImageSet) -> None:
    target = TargetModel.load(OLD / "target")
    assert target.fingerprint == TARGET
    found = target.represent_images(images.take(torch.arange(2)))
    torch.testing.assert_close(found, torch.tensor(REPRESENTATIONS))


def test_compatibility__distilled_set_loads() -> None:
    assert DistilledSet.load(OLD / "finished").fingerprint == DISTILLED


def test_compatibility__coded_set_loads() -> None:
    distilled = DistilledSet.load(OLD / "coded")  # the set above as PNG, at half its size
    assert distilled.fingerprint == CODED and distilled.basis is not None
    torch.testing.assert_close(
        distilled.targets[0], torch.tensor([0.8602, -0.7027, -0.2340]), atol=1e-4, rtol=0
    )
    pixels = torch.tensor([117, 123, 136, 138]) / 255
    torch.testing.assert_close(distilled.images[0, 0, 0, :4], pixels, atol=1.1 / 255, rtol=0)


def test_compatibility__finished_runs_are_recognized(
    images: ImageSet, problem: Problem, tmp_path: Path
) -> None:
    """Their config.yaml describes the run in today's words: else they would be refused."""
    training = TargetTraining(
        NETWORK, 5, BarlowTwins(projector=(8, 8)), batch=20, steps=4, standardize=True
    )
    folder = copied("target", tmp_path)
    assert train_target(images, training, folder=folder).fingerprint == TARGET
    assert distill(KRR_ST, problem, folder=copied("finished", tmp_path)).fingerprint == DISTILLED


@pytest.mark.skipif(not RECORD.is_dir(), reason="the benchmarks are in the repository only")
def test_compatibility__record_loads(tmp_path: Path) -> None:
    distilled = DistilledSet.load(RECORD)
    assert distilled.fingerprint == RECORDED
    rows = read_rows(Path(shutil.copy(RECORD / "rows.jsonl", tmp_path)))
    assert len(rows) == 190
    assert {row.artefact for row in rows} >= {distilled.fingerprint}
