"""MTT and MKDT: images_STEP.pt and labels_STEP.pt of their logged_files folders.

MTT (GeorgeCazenavette/mtt-distillation) writes integer labels, and perhaps ZCA-whitened images
(the files do not say which). MKDT (jiayini1119/MKDT) writes representations, and synlr_STEP.pt
beside them. Successors of MTT write soft labels: rows of probabilities.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from datastill.convert.format import Format, LoadedSet, Metadata, checked_pair
from datastill.convert.torch_file import read_torch
from datastill.core.errors import ArtefactError, ConfigError
from datastill.core.options import option
from datastill.distilled_set import PixelSpace
from datastill.images import Normalizer
from datastill.target_model import TargetModel

NAME = re.compile(r"images_(zca_)?(best|\d+)\.pt")
IMAGENET = Normalizer((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR10 = Normalizer((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
# `get_dataset` in its utils.py; CIFAR-100 as CIFAR-10
MTT = {"cifar10": CIFAR10, "cifar100": CIFAR10, "tiny-imagenet": IMAGENET, "imagenet": IMAGENET}
# `get_dataset` in its utils.py
MKDT = {
    "cifar10": CIFAR10,
    "cifar100": Normalizer((0.5071, 0.4865, 0.4409), (0.2009, 0.1984, 0.2023)),
    "tiny-imagenet": IMAGENET,
    "imagenet": Normalizer((0.485, 0.456, 0.3868), (0.2309, 0.2262, 0.2237)),
}
ASK_ZCA = "--format mtt --format.zca no|yes (whether MTT ran with --zca, which its files don't say)"


@dataclass(frozen=True)
class Mtt(Format):
    """A pair of files of one step, or the folder of a run (then the best step)."""

    looks_like = "images_STEP.pt beside labels_STEP.pt"

    zca: Literal["no", "yes"] | None = option(
        None, "whether the images are ZCA-whitened; yes is refused"
    )

    def matches(self, path: Path) -> bool:
        return bool(_steps(path)) if path.is_dir() else NAME.fullmatch(path.name) is not None

    def read(self, path: Path, target: TargetModel | None) -> LoadedSet:
        file = _best_step(path) if path.is_dir() else path
        if (name := NAME.fullmatch(file.name)) is None:
            raise ConfigError(f"{file}: expected a folder, or a file called {self.looks_like}")
        is_unwhitened, step = bool(name[1]), name[2]
        if self.zca == "yes" and not is_unwhitened:
            unwhitened = file.with_name(f"images_zca_{step}.pt")
            raise ArtefactError(
                f"{file} holds ZCA-whitened images without their whitening, so that target data"
                f" could not be whitened. MTT also writes the same images unwhitened: convert"
                f" {unwhitened} if it exists, or distil again without --zca"
            )
        files = (file, file.with_name(f"labels_{step}.pt"))
        images, labels = checked_pair(read_torch(files[0]), read_torch(files[1]), files)
        pixel_space: PixelSpace = "unit" if is_unwhitened else "normalized"
        if labels.dim() == 2 and not _are_probabilities(labels):
            implied = Metadata("mkdt", None, pixel_space, "representation")
            return LoadedSet(images, labels, files, implied, statistics=MKDT)
        implied = Metadata(None, None, pixel_space, "soft-label")
        if labels.dim() == 1:
            implied = Metadata("mtt", None, pixel_space, "hard-label", int(labels.max()) + 1)
        missing = () if is_unwhitened or self.zca == "no" else (ASK_ZCA,)
        return LoadedSet(images, labels, files, implied, missing, MTT)


def _are_probabilities(rows: Tensor) -> bool:  # (M, D)
    return bool((rows >= 0).all() and ((rows.double().sum(1) - 1).abs() < 1e-3).all())


def _steps(folder: Path) -> dict[str, Path]:
    """Return the image files of a folder by the step in their names."""
    matches = {file: NAME.fullmatch(file.name) for file in sorted(folder.iterdir())}
    return {match[2]: file for file, match in matches.items() if match and not match[1]}


def _best_step(folder: Path) -> Path:
    """Return the image file of the best step, or of the only one."""
    steps = _steps(folder)
    if not steps:
        raise ArtefactError(f"{folder} has no images_STEP.pt")
    if "best" in steps or len(steps) == 1:
        return steps.get("best") or next(iter(steps.values()))
    names = ", ".join(file.name for file in steps.values())
    raise ConfigError(f"{folder} has sets of many steps; give one file of {names}")
