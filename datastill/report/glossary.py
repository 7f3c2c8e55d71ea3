"""What the names in a report mean, and the order in which methods and tasks are shown."""

import re

METHODS = {  # in the order of the tables; methods that are not named here come before krr-st
    "scratch": "No pre-training: a network with random weights. The lower line.",
    "random-subset": (
        "Real images of the source, picked at random, as many as were distilled, with the target"
        " model's representations of them. What distillation adds is the distance to this row."
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
}

TASKS = {
    "linear-probe": (
        "Linear probe",
        "The pre-trained network is frozen; a linear classifier on it sees the labels.",
    ),
    "finetune": ("Fine-tuning", "The whole network is trained on, with a new head."),
    "knn-probe": ("k-NN probe", "The pre-trained network is frozen; its neighbours vote."),
    "held-out-r2": (
        "Held-out R²",
        "How much of the target model's representation of unseen source images the pre-trained"
        " network's output explains: what distillation optimises. 1 is all of it.",
    ),
}

UPPER_LINES = frozenset({"full-source", "target-model"})
CONTROLS = UPPER_LINES | {"scratch", "random-subset"}


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
