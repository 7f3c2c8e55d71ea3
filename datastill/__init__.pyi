"""The public API. `__init__.py` imports each name when it is first used."""

from .augment.views import TwoViews
from .core.errors import DatastillError
from .core.machine import Machine
from .data.source import source
from .distill import Probe, distill
from .distilled_set import DistilledSet
from .export import export_network
from .images import ImageSet, Normalizer
from .methods.dc import DC
from .methods.dm import DM
from .methods.dsa import DSA
from .methods.frepo import FRePo
from .methods.full_source import FullSource
from .methods.herding import Herding
from .methods.high_loss import HighLoss
from .methods.k_means import KMeans
from .methods.kip import KIP
from .methods.krr_st import KRRST
from .methods.label_solve import LabelSolve
from .methods.mkdt import MKDT
from .methods.mtt import MTT
from .methods.random_subset import RandomSubset
from .networks.convnet import ConvNet
from .networks.resnet18 import ResNet18
from .objectives.barlow_twins import BarlowTwins
from .ops.optimizers import AdamW, Lars, Sgd
from .pretrain import Pretraining, pretrain
from .pretrained_network import ImageTransform, PretrainedNetwork, load_network
from .problem import Problem
from .protocols.protocol import protocol
from .target_model import TargetModel
from .train_target import TargetTraining, train_target
from .transfer.data_free_kd import DataFreeKd
from .transfer.finetune import Finetune
from .transfer.knn_probe import KnnProbe
from .transfer.linear_probe import LinearProbe
from .transfer.task import TaskData

__version__: str

__all__ = [
    "DC",
    "DM",
    "DSA",
    "KIP",
    "KRRST",
    "MKDT",
    "MTT",
    "AdamW",
    "BarlowTwins",
    "ConvNet",
    "DataFreeKd",
    "DatastillError",
    "DistilledSet",
    "FRePo",
    "Finetune",
    "FullSource",
    "Herding",
    "HighLoss",
    "ImageSet",
    "ImageTransform",
    "KMeans",
    "KnnProbe",
    "LabelSolve",
    "Lars",
    "LinearProbe",
    "Machine",
    "Normalizer",
    "PretrainedNetwork",
    "Pretraining",
    "Probe",
    "Problem",
    "RandomSubset",
    "ResNet18",
    "Sgd",
    "TargetModel",
    "TargetTraining",
    "TaskData",
    "TwoViews",
    "__version__",
    "distill",
    "export_network",
    "load_network",
    "pretrain",
    "protocol",
    "source",
    "train_target",
]
