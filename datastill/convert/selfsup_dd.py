"""KRR-ST's released code and its published sets: x_syn.pt and y_syn.pt in one folder.

db-Lee/selfsup_dd feeds images to networks as they are, raw pixels in its own method (KRR-ST). Its
published folders are called SOURCE/METHOD, and hold sets of other methods too.
"""

from dataclasses import dataclass
from pathlib import Path

from datastill.convert.format import Format, LoadedSet, Metadata, checked_pair
from datastill.convert.torch_file import read_torch
from datastill.distilled_set import TargetKind
from datastill.images import Normalizer
from datastill.target_model import TargetModel

TARGET_KINDS: dict[str, TargetKind] = {  # `test.py`: how it pre-trains on sets of each method
    "krr-st": "representation",
    "frepo": "soft-label",
    "kip": "soft-label",
    **dict.fromkeys(("random", "kmeans", "dsa", "dm", "mtt"), "hard-label"),
}
STATISTICS = {  # `data/augmentation.py`, at the size of each source
    "cifar100": Normalizer((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    "tiny-imagenet": Normalizer((0.4802, 0.4481, 0.3975), (0.2770, 0.2691, 0.2821)),
    "imagenet": Normalizer((0.4810, 0.4574, 0.4078), (0.2633, 0.2560, 0.2708)),
    "imagenette": Normalizer((0.4655, 0.4546, 0.4250), (0.2804, 0.2754, 0.2965)),
}


@dataclass(frozen=True)
class SelfsupDD(Format):
    """The pair of files that `train.py` saves, or a folder of the published sets."""

    looks_like = "x_syn.pt beside y_syn.pt"

    def matches(self, path: Path) -> bool:
        return path.name == "x_syn.pt" or (path / "x_syn.pt").is_file()

    def read(self, path: Path, target: TargetModel | None) -> LoadedSet:
        folder = (path if path.is_dir() else path.parent).resolve()
        files = (folder / "x_syn.pt", folder / "y_syn.pt")
        images, targets = checked_pair(read_torch(files[0]), read_torch(files[1]), files)
        # in a folder of another name: only KRR-ST writes targets (M, D)
        method: str | None = folder.name.replace("_", "-")
        if method not in TARGET_KINDS:
            method = "krr-st" if targets.dim() == 2 else None
        source = folder.parent.name.replace("tinyimagenet", "tiny-imagenet")
        implied = Metadata(
            method=method,
            source=source if source in STATISTICS else None,
            pixel_space="raw" if method == "krr-st" else None,
            target_kind=TARGET_KINDS[method] if method else "hard-label",
        )
        return LoadedSet(images, targets, files, implied, statistics=STATISTICS)
