"""The driver flags of every verb, as dataclasses; nothing here imports torch.

The options of components (methods, networks, objectives, tasks, views) are not repeated here:
they become flags by themselves, such as `--method.outer_steps`.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from datastill.experiments.scale import Scale
from datastill.ground.options import option

DEVICE = "auto, cpu, cuda or cuda:NUMBER"
RESUME = "continue the run in the out folder; --resume --out DIR is enough"
PRECISION = "number format in networks"
AUTO = "; auto: bfloat16 where the device has instructions for it"
DATA_ROOT = "where the official archives are; default: the cache, else they are downloaded"
CHECKPOINTS = "seconds between checkpoints; 0: after every step"
PROFILE = "profile the third step into profile.txt and profile.json of the out folder"
Precision = Literal["float32", "bfloat16"]
PrecisionOrAuto = Precision | Literal["auto"]

TASKS = "datastill.transfer"
NAMED_IN = {  # flags whose values are names of components in a folder
    "recipe": "datastill.recipes",
    "data": "datastill.data",
    "to": "datastill.data",
    "held_out": "datastill.data",
    "task": TASKS,
    "protocol": "datastill.protocols",
}


def word(text: str, *, example: str, optional: bool = False) -> Any:
    """A word without a flag in front; for a field of type tuple, all words that are left."""
    found = {"help": text, "example": example, "optional": optional, "word": True}
    return dataclasses.field(default="", metadata=found)


def is_word(flags: type[Any], name: str) -> bool:
    """Whether a field was declared by `word`."""
    return any(f.name == name and "word" in f.metadata for f in dataclasses.fields(flags))


def needed(text: str, *, example: str) -> Any:
    """A flag that must be given."""
    found = {"help": text, "example": example, "optional": False}
    return dataclasses.field(default="", metadata=found)


@dataclass(frozen=True)
class Run:
    """Run a whole recipe: images in, distilled sets, transfer table and report out."""

    recipe: str = word("name of a recipe", example="quick")
    data_root: str | None = option(None, DATA_ROOT)
    to: tuple[str, ...] = option((), "only these of the recipe's target data")
    precision: Precision | None = option(None, PRECISION + "; default: the recipe's")
    scale: Scale = option(
        "full",
        "smoke: a few steps on made images, to see that all works; small: for two CPU cores, where"
        " the recipe has it",
    )
    seed: int = option(0, "root of all random streams", at_least=0)
    device: str = option("auto", DEVICE)
    workers: int = option(1, "parts made at once, each by a process of its own", at_least=1)
    ray: str | None = option(None, "make the parts on the Ray cluster at this address, or 'local'")
    reuse: str | None = option(
        None, "take target model and distilled sets of this run folder, where they are the same"
    )
    out: str | None = option(None, "run folder; default: runs/RECIPE, and the scale if not full")
    resume: bool = option(False, RESUME)
    checkpoint_seconds: float = option(60.0, CHECKPOINTS, at_least=0)
    resolved: dict[str, Any] | None = option(None, "")  # config.yaml: the recipe in full


@dataclass(frozen=True)
class Estimate:
    """Say what a recipe will take in time, memory and disk, by a short measurement here."""

    recipe: str = word("name of a recipe", example="quick")
    scale: Scale = option("full", "smoke, small or full, as for 'datastill run'")
    device: str = option("auto", DEVICE)
    workers: int = option(1, "parts made at once, which share the cores", at_least=1)
    count_only: bool = option(False, "count operations and bytes, time nothing: for a busy machine")


@dataclass(frozen=True)
class Target:
    """Train a target model on images, without their labels unless the objective is supervised."""

    data: str = needed("source: a name, or folder:PATH", example="folder:my-photos")
    data_root: str | None = option(None, DATA_ROOT)
    image_size: int | None = option(None, "pixels on a side; default: the native size", at_least=1)
    limit: int | None = option(None, "use a seeded random subset of so many images", at_least=1)
    outputs: int | None = option(None, "D; default: the features of the network", at_least=1)
    optimizer: Literal["adamw", "sgd", "lars"] = option("adamw", "what updates the weights")
    lr: float | None = option(None, "learning rate; default: the optimizer's", above=0)
    weight_decay: float | None = option(None, "weight decay; default: the optimizer's", at_least=0)
    warmup: float = option(
        0.05, "share of all steps over which the learning rate rises", at_least=0, below=1
    )
    batch: int | None = option(
        None,
        "images per step, each seen in two views; default: 256, or the whole of a smaller source",
        at_least=2,
    )
    epochs: int = option(200, "passes over the source", at_least=1)
    steps: int | None = option(None, "updates, instead of epochs", at_least=1)
    standardize: bool = option(False, "scale each output to mean 0, deviation 1 on the source")
    monitor_every: int = option(
        0,
        "steps between looks at held-out images: k-NN and linear accuracy (labels are read for"
        " this only), or signs of collapse where there are no labels; 0: none",
        at_least=0,
    )
    seed: int = option(0, "root of all random streams", at_least=0)
    device: str = option("auto", DEVICE)
    precision: PrecisionOrAuto = option("auto", PRECISION + AUTO)
    out: str = needed("run folder to make", example="targets/mine")
    resume: bool = option(False, RESUME)
    checkpoint_seconds: float = option(60.0, CHECKPOINTS, at_least=0)
    profile: bool = option(False, PROFILE)


@dataclass(frozen=True)
class Distill:
    """Distil a source into a small set of images and targets."""

    data: str = needed("source: a name, or folder:PATH", example="folder:my-photos")
    data_root: str | None = option(None, DATA_ROOT)
    image_size: int | None = option(
        None, "pixels on a side; default: the target model's", at_least=1
    )
    limit: int | None = option(None, "use a seeded random subset of so many images", at_least=1)
    target: str | None = option(
        None, "folder of the target model that 'datastill target' made, or timm:NAME"
    )
    count: int | Literal["all"] = option(1000, "M, how many images to distil to", at_least=1)
    probe_every: int = option(
        0, "steps between probes on the source's test split; 0: none", at_least=0
    )
    seed: int = option(0, "root of all random streams", at_least=0)
    device: str = option("auto", DEVICE)
    precision: PrecisionOrAuto = option("auto", PRECISION + AUTO)
    out: str = needed("run folder to make", example="runs/mine")
    resume: bool = option(False, RESUME)
    checkpoint_seconds: float = option(60.0, CHECKPOINTS, at_least=0)
    profile: bool = option(False, PROFILE)


@dataclass(frozen=True)
class Transfer:
    """Pre-train networks on distilled sets and judge them on labelled target data."""

    origins: tuple[str, ...] = word(
        "distilled sets or target models (files or run folders), timm:NAME, or scratch",
        example="runs/mine scratch",
    )
    to: tuple[str, ...] = needed("target data: names, or folder:PATH", example="cifar10,cub")
    task: tuple[str, ...] = option(
        ("linear-probe",), "how networks are judged; --help beside it shows the options"
    )
    protocol: str | None = option(
        None, "published settings, instead of --network, --task and --pretrain-steps"
    )
    data_root: str | None = option(None, DATA_ROOT)
    seeds: int = option(3, "networks per origin, with seeds 0, 1, ...", at_least=1)
    pretrain_steps: int | None = option(
        None, "pre-training updates; default: the paper's epochs", at_least=1
    )
    pretrain_epochs: tuple[int, ...] = option(
        (),
        "pre-training epochs; default: the paper's or the protocol's; several: a sweep of the"
        " protocol",
        at_least=1,
    )
    held_out: str | None = option(
        None, "measure the held-out R² too, on the test split of this source"
    )
    target: str | None = option(None, "folder of the target model, or timm:NAME, for --held-out")
    image_size: int | None = option(
        None, "pixels on a side; default: the origins', else the target data's", at_least=1
    )
    device: str = option("auto", DEVICE)
    precision: PrecisionOrAuto = option("auto", PRECISION + AUTO)
    out: str | None = option(None, "run folder; default: transfer/ beside the first origin")
    resume: bool = option(False, RESUME)
    checkpoint_seconds: float = option(60.0, CHECKPOINTS, at_least=0)


@dataclass(frozen=True)
class Convert:
    """Turn a distilled set of another project, or a folder of images, into an artefact."""

    path: str = word("file or folder to read", example="res_DSA_CIFAR10_ConvNet_10ipc.pt")
    data: str | None = option(None, "what was distilled: its statistics and classes are used")
    data_root: str | None = option(None, DATA_ROOT)
    source: str | None = option(None, "what was distilled, where it is no data of datastill")
    method: str | None = option(None, "what made the set; default: as the format implies")
    mean: tuple[float, ...] = option((), "per channel, of unit pixels; default: by --data")
    std: tuple[float, ...] = option((), "per channel, of unit pixels; default: by --data")
    pixel_space: Literal["unit", "normalized", "raw"] | None = option(
        None, "how the images are fed to networks; default: as the format implies"
    )
    target_kind: Literal["hard-label", "soft-label", "representation"] | None = option(
        None, "what the targets are; default: as the format implies"
    )
    num_classes: int | None = option(None, "K of hard labels; default: of the data", at_least=1)
    target: str | None = option(None, "target model that makes the targets of a folder of images")
    device: str = option("auto", DEVICE)
    out: str = needed("run folder to make", example="sets/dsa")


@dataclass(frozen=True)
class Report:
    """Make table.md, table.csv, table.tex, report.html and figures of any number of run folders."""

    folders: tuple[str, ...] = word("run folders, searched to any depth", example="runs/mine")
    out: str = option("report", "folder for the files")
    format: Literal["md", "csv", "tex"] = option("md", "table on stdout")


@dataclass(frozen=True)
class Show:
    """Say what a distilled set, target model or checkpoint is, after checking its SHA-256."""

    file: str = word("the file, or its run folder", example="runs/mine")


@dataclass(frozen=True)
class List:
    """List methods, networks, data, tasks, protocols, recipes, ...; with a name, its options."""

    kind: str = word("what to list; default: everything", example="methods", optional=True)
    name: str = word("one of them", example="krr-st", optional=True)


@dataclass(frozen=True)
class Data:
    """Prepare a data set for use, or check its counts, classes, checksums and statistics."""

    action: Literal["prepare", "check"] = word("prepare or check", example="check")
    data: str = word("a name, or folder:PATH", example="cifar10")
    data_root: str | None = option(None, DATA_ROOT)
    image_size: int | None = option(None, "pixels on a side; default: the native size", at_least=1)
    sheet: str | None = option(
        None, "with check: PNG file for a contact sheet of the training split, a row per class"
    )


Flags = Run | Estimate | Target | Distill | Transfer | Convert | Report | Show | List | Data


@dataclass(frozen=True)
class Component:
    """A flag that names a component, whose options then are flags with its name in front."""

    flag: str  # such as method
    folder: str  # such as datastill.methods
    default: str  # empty: the verb finds out


@dataclass(frozen=True)
class Verb:
    """A verb's own flags, the components that it takes, and how one would call it."""

    flags: type[Flags]
    example: str
    components: tuple[Component, ...] = ()
    views: bool = False  # whether the options of TwoViews are flags
    tasks: bool = False  # whether the options of the tasks named by --task are flags
    fixed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # a flag -> what it fixes
    ranks: bool = False  # whether torchrun's processes share the work


VERBS: dict[str, Verb] = {
    "run": Verb(Run, "datastill run quick"),
    "estimate": Verb(Estimate, "datastill estimate quick"),
    "target": Verb(
        Target,
        "datastill target --data folder:my-photos --image-size 32 --out targets/mine",
        (
            Component("network", "datastill.networks", "resnet18"),
            Component("objective", "datastill.objectives", "barlow-twins"),
        ),
        views=True,
        ranks=True,
    ),
    "distill": Verb(
        Distill,
        "datastill distill --data folder:my-photos --target targets/mine --count 100"
        " --out runs/mine",
        (
            Component("method", "datastill.methods", "krr-st"),
            Component("network", "datastill.networks", ""),
        ),
        ranks=True,
    ),
    "transfer": Verb(
        Transfer,
        "datastill transfer runs/mine scratch --to cifar10,folder:my-birds --seeds 3",
        (Component("network", "datastill.networks", ""),),
        tasks=True,
        fixed={"protocol": ("network", "task", "pretrain_steps")},
        ranks=True,
    ),
    "convert": Verb(
        Convert,
        "datastill convert res_DSA_CIFAR10_ConvNet_10ipc.pt --data cifar10 --out sets/dsa",
        (Component("format", "datastill.convert", ""),),
    ),
    "report": Verb(Report, "datastill report runs/mine"),
    "show": Verb(Show, "datastill show runs/mine/distilled.safetensors"),
    "list": Verb(List, "datastill list methods krr-st"),
    "data": Verb(Data, "datastill data check folder:my-photos --image-size 32"),
}
