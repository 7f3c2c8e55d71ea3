"""What the names in a report mean, and the order in which methods and tasks are shown."""

import re

METHODS = {  # in the order of the tables; methods that are not named here come before krr-st
    "scratch": "No pre-training: a network with random weights. The lower line.",
    "random-subset": (
        "Real images of the source, picked at random, as many as were distilled, with the target"
        " model's representations of them. What distillation adds is the distance to this row."
    ),
    "k-means": "Real images of the source nearest to the centres of clusters, with class labels.",
    "herding": "Real images whose running mean follows the mean feature of their class.",
    "dc": "Gradient matching (Zhao et al., 2021), with class labels.",
    "dsa": "Gradient matching with differentiable Siamese augmentation (Zhao & Bilen, 2021).",
    "dm": "Distribution matching (Zhao & Bilen, 2023), with class labels.",
    "mtt": "Matching of training trajectories (Cazenavette et al., 2022), with class labels.",
    "kip": "Kernel inducing points (Nguyen et al., 2021): infinitely wide networks, soft labels.",
    "frepo": "Neural feature regression with pooling (Zhou et al., 2022), with soft labels.",
    "mkdt": (
        "Matching of knowledge-distillation trajectories (Joshi et al., 2024), with target"
        " representations."
    ),
    "krr-st": (
        "Self-supervised dataset distillation (Lee et al., ICLR 2024): images and target"
        " representations optimised so that kernel ridge regression on the features of inner"
        " models predicts the target model."
    ),
    "full-source": (
        "Pre-training on every image of the source with the target model's representations."
        " The upper line of what a distilled set can reach with this network."
    ),
    "target-model": "The self-supervised target model itself, judged by the same task.",
}

VARIANTS = {
    "stale_pool": (
        "The pool of inner models as in the released code: an age is not reset when a model is"
        " replaced, so that after a while nearly all inner models are untrained."
    ),
    "targets=class-label": (
        "Class labels in place of representations: the one row here that needs labels."
    ),
    "targets=class-label, balanced": "Class labels, and as many images of each class.",
}

TASKS = {
    "linear-probe": (
        "Linear probe",
        "The pre-trained network is frozen; a linear classifier on it sees the labels.",
    ),
    "finetune": ("Fine-tuning", "The whole network is trained on, with a new head."),
    "knn-probe": ("k-NN probe", "The pre-trained network is frozen; its neighbours vote."),
    "classify": (
        "Classification",
        "The network is trained from scratch on the set alone; its own outputs are judged.",
    ),
    "data-free-kd": (
        "Target-data-free distillation",
        "A teacher of the target data teaches the pre-trained network on the distilled images;"
        " without a set, on Gaussian noise.",
    ),
    "held-out-r2": (
        "Held-out R²",
        "How much of the target model's representation of unseen source images the pre-trained"
        " network's output explains: what distillation optimises. 1 is all of it.",
    ),
}

PROTOCOLS = {
    "paper": (
        "Protocol of the paper",
        "As in the paper of KRR-ST: 1,000 epochs of pre-training, the whole network is fine-tuned.",
    ),
    "mkdt": (
        "Protocol of MKDT",
        "As the authors of MKDT measure: 20 epochs of pre-training unless another number is named,"
        " InstanceNorm ConvNet, a linear probe on the frozen network with few labels.",
    ),
    "labelled": (
        "Labelled standard",
        "As the DC family is measured: a network is trained from scratch on the set and tested on"
        " the data that the set was distilled from.",
    ),
    "equal-budget": (
        "Equal budgets",
        "Every kind of set gets the same updates, batch and augmentation; then fine-tuning.",
    ),
}

TARGET_KINDS = {
    "hard-label": "class labels",
    "soft-label": "soft labels",
    "representation": "representations",
}

REFERENCES = frozenset({"scratch", "full-source", "target-model"})
CONTROLS = REFERENCES | {"random-subset"}


def protocol_family(protocol: str) -> str:
    """A protocol without its own length of pre-training: "mkdt" for "mkdt, 100 epochs"."""
    return re.sub(r", [\d,]+ (epochs?|steps?)$", "", protocol)


def protocol_order(protocol: str) -> tuple[object, ...]:
    """Sort key: known protocols first, then others, the run's own settings last."""
    family = protocol_family(protocol)
    known = list(PROTOCOLS)
    rank = known.index(family) if family in known else len(known) + (family == "")
    return rank, natural(protocol)


def protocol_title(protocol: str) -> str:
    """A protocol as a heading; "" for the run's own settings."""
    if not protocol:
        return ""
    family = protocol_family(protocol)
    title = PROTOCOLS[family][0] if family in PROTOCOLS else f"Protocol {family}"
    return title + protocol[len(family) :]


def method_order(method: str) -> tuple[int, str]:
    """Sort key: scratch, random subsets, other methods, krr-st, then the upper lines."""
    known = list(METHODS)
    unknown = known.index("krr-st")
    rank = known.index(method) if method in METHODS else unknown
    return rank + (method in METHODS and rank >= unknown), method


def task_order(task: str) -> tuple[int, str]:
    """Sort key: known tasks first, unknown ones in the order of their names."""
    known = list(TASKS)
    return (known.index(task) if task in TASKS else len(known)), task


def task_title(task: str) -> str:
    """A task's name as a heading."""
    return TASKS[task][0] if task in TASKS else task.replace("-", " ").capitalize()


def natural(text: str) -> list[str | int]:
    """Sort key in which 5 comes before 10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]
