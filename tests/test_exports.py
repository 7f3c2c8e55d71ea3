"""The public API is what `__all__` says, and it does not import torch before it must."""

import importlib
import subprocess
import sys

import pytest
import torch

import datastill

NAMES = [
    "AdamW", "BarlowTwins", "ConvNet", "DC", "DM", "DSA", "DataFreeKd", "DatastillError",
    "DistilledSet", "FRePo", "Finetune", "FullSource", "Herding", "HighLoss", "ImageSet",
    "ImageTransform", "KIP", "KMeans", "KRRST", "KnnProbe", "LabelSolve", "Lars", "LinearProbe",
    "MKDT", "MTT", "Machine", "Normalizer", "PretrainedNetwork", "Pretraining", "Probe", "Problem",
    "RandomSubset", "ResNet18", "Sgd", "TargetModel", "TargetTraining", "TaskData", "TwoViews",
    "__version__", "distill", "export_network", "load_network", "pretrain", "protocol", "source",
    "train_target",
]  # fmt: skip


def test_exports__all_is_frozen_and_sorted() -> None:
    assert datastill.__all__ == NAMES


def test_exports__every_name_is_there_and_nothing_else() -> None:
    assert dir(datastill) == NAMES
    assert all(getattr(datastill, name) is not None for name in NAMES)


def test_exports__functions_are_not_hidden_by_their_modules() -> None:
    for name in ("distill", "pretrain", "train_target"):
        module = importlib.import_module(f"datastill.{name}")
        assert getattr(datastill, name) is getattr(module, name)


def test_exports__unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="dstill"):
        datastill.dstill  # noqa: B018


def test_exports__import_is_fast_and_does_not_import_torch() -> None:
    code = """
import sys, time
start = time.process_time()
import datastill
print(time.process_time() - start)
sys.exit('torch' in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.5


def test_version__is_there_without_metadata_of_an_installation() -> None:
    code = """
import importlib.metadata as metadata
installed = metadata.version
def version(name):
    if name == "datastill":
        raise metadata.PackageNotFoundError(name)
    return installed(name)
metadata.version = version
import datastill
from datastill.core.run_folder import versions
print(datastill.__version__, versions()["datastill"], versions()["torch"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0+source", "0+source", torch.__version__]
