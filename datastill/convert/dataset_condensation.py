"""DC, DSA and DM: res_METHOD_DATA_NETWORK_Nipc.pt of VICO-UoE/DatasetCondensation.

The file is `{"data": [[images, labels], ...], "accs_all_exps": ...}`, one pair per experiment.
Images are normalized, and every class has as many images as any other.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from datastill.convert.format import Format, LoadedSet, Metadata, checked_pair
from datastill.convert.torch_file import read_torch
from datastill.core.errors import ArtefactError, ConfigError
from datastill.core.options import option
from datastill.images import Normalizer
from datastill.target_model import TargetModel

NAME = re.compile(r"res_([A-Za-z0-9-]+)_([A-Za-z0-9-]+)_(.+)_(\d+)ipc\.pt")
# `get_dataset` in its utils.py
STATISTICS = {
    "mnist": Normalizer((0.1307,), (0.3081,)),
    "fashion-mnist": Normalizer((0.2861,), (0.3530,)),
    "svhn": Normalizer((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "cifar10": Normalizer((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": Normalizer((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    "tiny-imagenet": Normalizer((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
SOURCES = {"FashionMNIST": "fashion-mnist", "TinyImageNet": "tiny-imagenet"}


@dataclass(frozen=True)
class DatasetCondensation(Format):
    """A results file of DC, DSA or DM."""

    looks_like = "res_METHOD_DATA_NETWORK_Nipc.pt"

    experiment: int | None = option(
        None, "which of the experiments in the file, from 0", at_least=0
    )

    def matches(self, path: Path) -> bool:
        return NAME.fullmatch(path.name) is not None

    def read(self, path: Path, target: TargetModel | None) -> LoadedSet:
        content = read_torch(path)
        pairs = content.get("data") if isinstance(content, dict) else None
        if not isinstance(pairs, list) or not all(
            isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs
        ):
            raise ArtefactError(
                f"{path} has no 'data' with pairs of images and labels; is --format right?"
            )
        if not pairs:
            raise ArtefactError(f"{path} has no finished experiment in it; let the run finish one")
        number, available = self.experiment or 0, f"{len(pairs)}, from 0 to {len(pairs) - 1}"
        if number >= len(pairs):
            raise ConfigError(f"experiment={number}: {path} has {available}")
        first, second = pairs[number]
        images, labels = checked_pair(first, second, (path,))
        name = NAME.fullmatch(path.name)
        implied = Metadata(
            name and name[1].lower(),
            name and SOURCES.get(name[2], name[2].lower()),
            "normalized",
            "hard-label",
            int(labels.max()) + 1 if labels.dim() == 1 else None,
        )
        flag = f"--format dataset-condensation --format.experiment N (the file has {available})"
        missing = (flag,) if self.experiment is None and len(pairs) > 1 else ()
        return LoadedSet(images, labels, (path,), implied, missing, STATISTICS)
