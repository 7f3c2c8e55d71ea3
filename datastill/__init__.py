"""Self-supervised dataset distillation: KRR-ST, its controls, and what follows from them.

All public names are here. They are imported when they are first used, so that `import datastill`
and the help of the command line do not wait for torch.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datastill.artefact import DistilledSet as DistilledSet
    from datastill.augment.views import TwoViews as TwoViews
    from datastill.data._base import source as source
    from datastill.distill import Probe as Probe
    from datastill.distill import distill as distill
    from datastill.ground.errors import DatastillError as DatastillError
    from datastill.ground.machine import Machine as Machine
    from datastill.images import ImageSet as ImageSet
    from datastill.images import Normalizer as Normalizer
    from datastill.maths.optimizers import AdamW as AdamW
    from datastill.maths.optimizers import Lars as Lars
    from datastill.maths.optimizers import Sgd as Sgd
    from datastill.methods._base import Problem as Problem
    from datastill.methods.dc import DC as DC
    from datastill.methods.dm import DM as DM
    from datastill.methods.dsa import DSA as DSA
    from datastill.methods.frepo import FRePo as FRePo
    from datastill.methods.full_source import FullSource as FullSource
    from datastill.methods.herding import Herding as Herding
    from datastill.methods.k_means import KMeans as KMeans
    from datastill.methods.kip import KIP as KIP
    from datastill.methods.krr_st import KRRST as KRRST
    from datastill.methods.mtt import MTT as MTT
    from datastill.methods.random_subset import RandomSubset as RandomSubset
    from datastill.networks.convnet import ConvNet as ConvNet
    from datastill.networks.resnet18 import ResNet18 as ResNet18
    from datastill.objectives.barlow_twins import BarlowTwins as BarlowTwins
    from datastill.pretrain import Pretraining as Pretraining
    from datastill.pretrain import pretrain as pretrain
    from datastill.protocols._base import protocol as protocol
    from datastill.target_model import TargetModel as TargetModel
    from datastill.train_target import TargetTraining as TargetTraining
    from datastill.train_target import train_target as train_target
    from datastill.transfer._base import TaskData as TaskData
    from datastill.transfer.data_free_kd import DataFreeKd as DataFreeKd
    from datastill.transfer.finetune import Finetune as Finetune
    from datastill.transfer.knn_probe import KnnProbe as KnnProbe
    from datastill.transfer.linear_probe import LinearProbe as LinearProbe

_HOMES = {
    "AdamW": "maths.optimizers",
    "BarlowTwins": "objectives.barlow_twins",
    "ConvNet": "networks.convnet",
    "DC": "methods.dc",
    "DM": "methods.dm",
    "DSA": "methods.dsa",
    "DataFreeKd": "transfer.data_free_kd",
    "DatastillError": "ground.errors",
    "DistilledSet": "artefact",
    "FRePo": "methods.frepo",
    "Finetune": "transfer.finetune",
    "FullSource": "methods.full_source",
    "Herding": "methods.herding",
    "ImageSet": "images",
    "KIP": "methods.kip",
    "KMeans": "methods.k_means",
    "KRRST": "methods.krr_st",
    "KnnProbe": "transfer.knn_probe",
    "Lars": "maths.optimizers",
    "LinearProbe": "transfer.linear_probe",
    "MTT": "methods.mtt",
    "Machine": "ground.machine",
    "Normalizer": "images",
    "Pretraining": "pretrain",
    "Probe": "distill",
    "Problem": "methods._base",
    "RandomSubset": "methods.random_subset",
    "ResNet18": "networks.resnet18",
    "Sgd": "maths.optimizers",
    "TargetModel": "target_model",
    "TargetTraining": "train_target",
    "TaskData": "transfer._base",
    "TwoViews": "augment.views",
    "distill": "distill",
    "pretrain": "pretrain",
    "protocol": "protocols._base",
    "source": "data._base",
    "train_target": "train_target",
}

__all__ = sorted(["__version__", *_HOMES])


class _Package(ModuleType):
    """`datastill.distill` is the function, also after its module of that name was imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    """Import a public name at its first use (PEP 562)."""
    if name == "__version__":
        return importlib.import_module("datastill.ground.run_folder").versions()["datastill"]
    if name not in _HOMES:
        raise AttributeError(f"module 'datastill' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"datastill.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
