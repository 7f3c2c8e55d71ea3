"""The driver flags of every verb, as dataclasses; nothing here imports torch.

The options of components (methods, networks, objectives, tasks, views) are not repeated here:
they become flags by themselves, such as `--method.outer_steps`.
"""

from dataclasses import dataclass, field
from typing import Literal

from datastill.ground.options import option


@dataclass(frozen=True)
class Component:
    """A flag that names a component, whose options then are flags with its name in front."""

    flag: str  # such as method
    folder: str  # such as datastill.methods
    default: str  # empty: the verb finds out


METHOD = Component("method", "datastill.methods", "krr-st")
NETWORK = Component("network", "datastill.networks", "convnet")
TARGET_NETWORK = Component("network", "datastill.networks", "resnet18")
SAME_NETWORK = Component("network", "datastill.networks", "")
OBJECTIVE = Component("objective", "datastill.objectives", "barlow-twins")


@dataclass(frozen=True)
class Run:
    """Run a whole recipe: images in, distilled sets, transfer table and report out."""

    recipe: str = field(metadata={"help": "name of a recipe, such as quick", "positional": "1"})
    data_root: str | None = option(None, "folder with the archives of the data sets")
    seed: int = option(0, "root of all random streams")
    device: str = option("auto", "auto, cpu or cuda")
    out: str | None = option(None, "run folder; default: runs/RECIPE")
    resume: bool = option(False, "continue the run in the out folder")


@dataclass(frozen=True)
class Target:
    """Train a self-supervised target model on unlabelled images."""

    data: str = option("", "source: a name, or folder:PATH")
    data_root: str | None = option(None, "folder with the archive of the data set")
    image_size: int | None = option(None, "pixels on a side; default: the native size")
    limit: int | None = option(None, "use a seeded random subset of so many images")
    outputs: int | None = option(None, "D; default: the features of the network")
    optimizer: Literal["adamw", "sgd", "lars"] = option("adamw", "optimizer")
    lr: float | None = option(None, "learning rate; default: the optimizer's")
    weight_decay: float | None = option(None, "weight decay; default: the optimizer's")
    warmup: float = option(0.05, "share of all steps over which the learning rate rises")
    batch: int = option(256, "images per step, each seen in two views")
    epochs: int = option(200, "passes over the source")
    steps: int | None = option(None, "updates; overrides epochs")
    standardize: bool = option(False, "scale each output to mean 0, deviation 1 on the source")
    seed: int = option(0, "root of all random streams")
    device: str = option("auto", "auto, cpu or cuda")
    precision: Literal["float32", "bfloat16"] = option("float32", "number format in networks")
    out: str = option("", "run folder to make")
    resume: bool = option(False, "continue the run in the out folder")


@dataclass(frozen=True)
class Distill:
    """Distil a source into a small set of images and targets."""

    data: str = option("", "source: a name, or folder:PATH")
    data_root: str | None = option(None, "folder with the archive of the data set")
    image_size: int | None = option(None, "pixels on a side; default: the target model's")
    limit: int | None = option(None, "use a seeded random subset of so many images")
    target: str | None = option(None, "folder of the target model")
    count: str = option("1000", "M, how many distilled images; all: as many as the source has")
    probe_every: int = option(0, "steps between probes on the source's test split; 0: none")
    seed: int = option(0, "root of all random streams")
    device: str = option("auto", "auto, cpu or cuda")
    precision: Literal["float32", "bfloat16"] = option("float32", "number format in networks")
    out: str = option("", "run folder to make")
    resume: bool = option(False, "continue the run in the out folder")


@dataclass(frozen=True)
class Transfer:
    """Pre-train networks on distilled sets and judge them on labelled target data."""

    origins: tuple[str, ...] = field(
        metadata={
            "help": "distilled sets or target models (files or folders), or scratch",
            "positional": "+",
        }
    )
    to: str = option("", "target data, by commas: names, or folder:PATH")
    task: str = option("linear-probe", "tasks, by commas")
    data_root: str | None = option(None, "folder with the archives of the data sets")
    seeds: int = option(3, "networks per origin: seeds 0, 1, ...")
    pretrain_steps: int | None = option(None, "pre-training updates; default: the published row's")
    pretrain_epochs: int | None = option(None, "pre-training epochs; default: the published row's")
    held_out: str | None = option(None, "source whose test split asks for the held-out R²")
    target: str | None = option(None, "folder of the target model, for --held-out")
    image_size: int | None = option(None, "pixels on a side, for scratch alone")
    device: str = option("auto", "auto, cpu or cuda")
    precision: Literal["float32", "bfloat16"] = option("float32", "number format in networks")
    out: str | None = option(None, "run folder; default: transfer/ beside the first origin")
    resume: bool = option(False, "continue the run in the out folder")


@dataclass(frozen=True)
class Report:
    """Make table.md, table.csv and report.html of any number of run folders."""

    folders: tuple[str, ...] = field(metadata={"help": "run folders", "positional": "+"})
    out: str = option("report", "folder for the files")
    format: Literal["md", "csv"] = option("md", "what to print on stdout")


@dataclass(frozen=True)
class Show:
    """Say what a distilled set, target model or checkpoint is, after checking its SHA-256."""

    file: str = field(metadata={"help": "the file, or its run folder", "positional": "1"})


@dataclass(frozen=True)
class List:
    """List methods, networks, data, objectives, tasks or recipes; with a name, its options."""

    kind: str = field(metadata={"help": "what to list", "positional": "1"})
    name: str | None = field(default=None, metadata={"help": "one of them", "positional": "?"})


@dataclass(frozen=True)
class Data:
    """Prepare a data set for use, or check its counts, classes, checksums and statistics."""

    action: Literal["prepare", "check"] = field(metadata={"help": "what to do", "positional": "1"})
    name: str = field(metadata={"help": "a name, or folder:PATH", "positional": "1"})
    data_root: str | None = option(None, "folder with the archive of the data set")
    image_size: int | None = option(None, "pixels on a side; default: the native size")


Flags = Run | Target | Distill | Transfer | Report | Show | List | Data

VERBS: dict[str, tuple[type[Flags], tuple[Component, ...]]] = {
    "run": (Run, ()),
    "target": (Target, (TARGET_NETWORK, OBJECTIVE)),
    "distill": (Distill, (METHOD, NETWORK)),
    "transfer": (Transfer, (SAME_NETWORK,)),
    "report": (Report, ()),
    "show": (Show, ()),
    "list": (List, ()),
    "data": (Data, ()),
}
