"""Choose the training images that keep their labels: all, a share, or a number per class.

Every class keeps at least one image. Only a share "at random", which is drawn over all images as in
the released code of MKDT, may leave classes out, which is logged.
"""

import re

import torch
from torch import Generator, Tensor

from datastill.core.errors import ConfigError, DataError
from datastill.core.progress import logger
from datastill.core.rng import fork
from datastill.images import ImageSet
from datastill.transfer.task import TaskData

PATTERN = re.compile(r"(?P<share>\d+(\.\d+)?)%(?P<random>-at-random)?|(?P<each>[1-9]\d*)-per-class")


def check_labels(labels: tuple[str, ...]) -> None:
    """Check that each entry is `all`, `10%`, `10%-at-random` or `5-per-class`.

    Raises:
        ConfigError: An entry has another form.
    """
    for text in labels:
        if text != "all" and not PATTERN.fullmatch(text):
            raise ConfigError(
                f"labels={text!r}; expected all, a share such as 10%, or 5-per-class;"
                " 10%-at-random may leave classes out"
            )


def check_enough(data: TaskData, labels: tuple[str, ...]) -> None:
    """Check that there are enough labelled images, and log how many classes get none.

    Raises:
        DataError: See `choose_labelled`.
    """
    for text in labels:
        chosen = choose_labelled(data, text, seed=0)
        missing = chosen.num_classes - _classes_in(chosen)
        if missing:
            logger.info(
                f"{data.name}: labels={text} are {len(chosen)} images, and {missing} of"
                f" {chosen.num_classes} classes have none of them; this depends on the seed"
            )


def labels_of(images: ImageSet) -> Tensor:  # (N,) int64
    """Return the labels of images that have some."""
    assert images.labels is not None, "TaskData is checked to be labelled"
    return images.labels


def choose_labelled(data: TaskData, labels: str, seed: int) -> ImageSet:
    """Draw a subset of the training images, class by class unless it is drawn "at random".

    Raises:
        DataError: A class has fewer images than `labels` needs, or all images drawn at random
            are of one class.
    """
    match = PATTERN.fullmatch(labels)
    generator = fork(seed, "labels", data.name, labels)
    if match is not None and match["random"]:
        return _at_random(data, labels, float(match["share"]), generator)
    share = float(match["share"]) if match is not None and match["share"] else 0.0
    each = int(match["each"]) if match is not None and match["each"] else 1
    chosen = []
    for k in range(data.train.num_classes):
        members = (labels_of(data.train) == k).nonzero()[:, 0]
        needed = max(each, round(len(members) * share / 100))
        if len(members) < needed:
            raise DataError(
                f"{data.name}: class {data.train.classes[k]} has {len(members)} training images,"
                f" fewer than the {needed} that labels={labels} needs"
            )
        chosen.append(members[torch.randperm(len(members), generator=generator)[:needed]])
    return data.train if labels == "all" else data.train.take(torch.cat(chosen))


def _at_random(data: TaskData, labels: str, share: float, generator: Generator) -> ImageSet:
    count = int(len(data.train) * share / 100)
    chosen = data.train.take(torch.randperm(len(data.train), generator=generator)[:count])
    if _classes_in(chosen) < 2:
        raise DataError(
            f"{data.name}: labels={labels} are {count} of {len(data.train)} training images, with"
            " fewer than two classes among them; choose a larger share"
        )
    return chosen


def _classes_in(images: ImageSet) -> int:
    return int(labels_of(images).bincount().count_nonzero())
