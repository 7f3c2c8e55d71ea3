"""The public API is what `__all__` says, and it does not import torch before it must."""

import importlib
import subprocess
import sys

import pytest

import datastill

NAMES = [
    "AdamW", "BarlowTwins", "ConvNet", "DC", "DM", "DSA", "DataFreeKd", "DatastillError",
    "DistilledSet", "FRePo", "Finetune", "FullSource", "Herding", "ImageSet", "KIP", "KMeans",
    "KRRST", "KnnProbe", "Lars", "LinearProbe", "MTT", "Machine", "Normalizer", "Pretraining",
    "Probe", "Problem", "RandomSubset", "ResNet18", "Sgd", "TargetModel", "TargetTraining",
    "TaskData", "TwoViews", "__version__", "distill", "pretrain", "protocol", "source",
    "train_target",
]  # fmt: skip


def test_exports__all_is_frozen_and_sorted() -> None:
    assert datastill.__all__ == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_exports__every_name_is_there(name: str) -> None:
    assert getattr(datastill, name) is not None and name in dir(datastill)


def test_exports__nothing_else_is_public() -> None:
    assert dir(datastill) == NAMES


def test_exports__functions_are_not_hidden_by_their_modules() -> None:
    for name in ("distill", "pretrain", "train_target"):
        importlib.import_module(f"datastill.{name}")
        assert callable(getattr(datastill, name))


def test_exports__unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'dstill'"):
        datastill.dstill  # noqa: B018


def test_exports__import_does_not_import_torch() -> None:
    code = "import sys, datastill; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
