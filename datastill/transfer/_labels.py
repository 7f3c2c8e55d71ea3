"""Which training images of a task keep their labels: all, a share, or so many per class."""

import re

import torch

from datastill.ground.errors import ConfigError, DataError
from datastill.ground.rng import fork
from datastill.images import ImageSet
from datastill.transfer._base import TaskData

PATTERN = re.compile(r"(?P<share>\d+(\.\d+)?)%|(?P<each>[1-9]\d*)-per-class|all")


def check_labels(labels: tuple[str, ...]) -> None:
    """Refuse descriptions other than `all`, `10%` or `5-per-class`.

    Raises:
        ConfigError: a description has another form.
    """
    for text in labels:
        if not PATTERN.fullmatch(text):
            raise ConfigError(f"labels={text!r}; expected all, a share such as 10%, or 5-per-class")


def choose_labelled(data: TaskData, labels: str, seed: int) -> ImageSet:
    """A seeded subset of the training images, stratified: at least one image of each class.

    Raises:
        DataError: a class has fewer images than were asked for.
    """
    match = PATTERN.fullmatch(labels)
    assert match is not None, "check_labels refuses other descriptions"
    all_labels = data.train.labels
    assert all_labels is not None, "TaskData is checked to be labelled"
    if labels == "all":
        return data.train
    generator = fork(seed, "labels", data.name, labels)
    chosen = []
    for k in range(data.train.num_classes):
        members = (all_labels == k).nonzero()[:, 0]
        if match["each"]:
            wanted = int(match["each"])
        else:
            wanted = max(1, round(len(members) * float(match["share"]) / 100))
        if len(members) < wanted:
            raise DataError(
                f"{data.name}: class {data.train.classes[k]} has {len(members)} training images,"
                f" fewer than the {wanted} asked for by labels={labels}"
            )
        chosen.append(members[torch.randperm(len(members), generator=generator)[:wanted]])
    return data.train.take(torch.cat(chosen))
