"""Convert files of another project to an artefact that records the origin of its metadata."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datastill.convert.format import Format, LoadedSet, Metadata
from datastill.core.atomic import sha256
from datastill.core.errors import ArtefactError, ConfigError, DataError
from datastill.core.lookup import find, names, public_name
from datastill.core.options import Json, to_json
from datastill.core.progress import logger
from datastill.core.run_folder import versions
from datastill.data.source import ImageSource
from datastill.distilled_set import DistilledSet
from datastill.images import Normalizer
from datastill.target_model import TargetModel

FORMATS = "datastill.convert"
UNKNOWN = Metadata()
MAX_LISTED = 10  # files whose digests are stored one by one
FLAGS = {
    "method": "--method NAME (the method that made the set, such as dsa)",
    "source": "--data NAME (the distilled data set; --source NAME if datastill does not have it)",
    "pixel_space": "--pixel-space unit|normalized|raw (how a network is fed: docs/artefact.md)",
    "target_kind": "--target-kind hard-label|soft-label|representation",
    "num_classes": "--num-classes K",
    "normalizer": "--mean A,B,C --std A,B,C (of unit pixels; or --data NAME: of that source)",
}


def guess_format(path: Path) -> Format:
    """Find the one format that has files of these names.

    Raises:
        ArtefactError: there is nothing at `path`.
        ConfigError: the names fit no format, or several.
    """
    if not path.exists():
        raise ArtefactError(f"there is no {path}")
    formats: dict[str, Format] = {name: find(FORMATS, name)() for name in names(FORMATS)}
    fitting = [name for name, candidate in formats.items() if candidate.matches(path)]
    if len(fitting) != 1:
        fits = " and ".join(fitting) or "no format"
        descriptions = "; ".join(
            f"{name}: {candidate.looks_like}" for name, candidate in formats.items()
        )
        raise ConfigError(f"{path} fits {fits} by its name; add --format NAME ({descriptions})")
    return formats[fitting[0]]


def convert(
    path: Path,
    file_format: Format,
    metadata: Metadata = UNKNOWN,
    *,
    data: ImageSource | None = None,
    data_root: Path | None = None,
    target: TargetModel | None = None,
) -> DistilledSet:
    """Read a set of another project as an artefact.

    Metadata that were not passed are filled in and logged with the reason.

    Args:
        path: A file or folder of the set.
        file_format: Such as `guess_format(path)`.
        metadata: Known to the user; used in place of what the format implies.
        data: The distilled data set, for its classes and statistics.
        data_root: Folder with the files of `data`.
        target: Computes the targets of a format that has none.

    Returns:
        The set, with the history of its conversion in `provenance["converted"]`.

    Raises:
        DatastillError: The files cannot be used, or metadata are missing.
    """
    name = public_name(file_format)
    if target is not None and not file_format.takes_target:
        raise ConfigError(f"--target is for sets without targets; {name} has its own")
    if not path.exists():
        raise ArtefactError(f"there is no {path}")
    loaded = file_format.read(path, target)
    passed = _without_none(metadata)
    filled = _implied(name, loaded, passed.get("source"))
    if data is not None:
        if data.num_classes is not None:
            filled.setdefault("num_classes", (data.num_classes, f"of {data.name}"))
        if "normalizer" not in passed | filled:
            images = data.load("train", loaded.images.shape[2], data_root)
            reason = f"measured on {images.name} as prepared here"
            filled["normalizer"] = (images.normalizer, reason)
    filled = {key: entry for key, entry in filled.items() if key not in passed}
    values = passed | {key: value for key, (value, _) in filled.items()}
    needed = set(FLAGS) - (set() if values.get("target_kind") == "hard-label" else {"num_classes"})
    flags = [flag for key, flag in FLAGS.items() if key in needed - set(values)]
    if missing := [*loaded.missing, *flags]:
        raise ConfigError(f"{path} lacks metadata; add {'; '.join(missing)}")
    for key, (value, reason) in filled.items():
        logger.info(f"{key} {_json(value)}: {reason}")
    logger.info(f"pixels from {loaded.images.min():.3g} to {loaded.images.max():.3g}")
    history = {
        "format": {"name": name, **to_json(file_format)},
        "files": _digests(path, loaded.files),
        "given": {key: _json(value) for key, value in passed.items()},
        "implied": {key: _json(value) for key, (value, _) in filled.items()},
    }
    return _to_artefact(loaded, Metadata(**values), history)


def _implied(name: str, loaded: LoadedSet, source: str | None) -> dict[str, tuple[Any, str]]:
    """Return what the format implies, each value with the reason for it."""
    implied: dict[str, tuple[Any, str]] = {
        key: (value, f"implied by {name} and its names")
        for key, value in _without_none(loaded.implied).items()
    }
    source = source or loaded.implied.source or ""
    if source in loaded.statistics:
        reason = f"what the code of {name} uses for {source}"
        implied.setdefault("normalizer", (loaded.statistics[source], reason))
    return implied


def _to_artefact(loaded: LoadedSet, metadata: Metadata, history: Json) -> DistilledSet:
    assert metadata.target_kind and metadata.pixel_space and metadata.normalizer, "checked before"
    channels, statistics = loaded.images.shape[1], len(metadata.normalizer.mean)
    if channels != statistics:
        raise ConfigError(
            f"the images have {channels} channels, mean and std {statistics};"
            " give --mean and --std with one number per channel, or another --data"
        )
    is_hard, target = metadata.target_kind == "hard-label", loaded.target
    return DistilledSet(
        loaded.images,
        _checked_targets(loaded, metadata),
        target_kind=metadata.target_kind,
        pixel_space=metadata.pixel_space,
        normalizer=metadata.normalizer,
        provenance={
            "method": {"name": metadata.method, "variant": "converted", "options": {}},
            "source": {"name": f"{metadata.source}/train"},
            "target": target and {"fingerprint": target.fingerprint, **target.provenance},
            "count": len(loaded.images),
            "classes": list(loaded.classes) if metadata.num_classes == len(loaded.classes) else [],
            "num_classes": metadata.num_classes if is_hard else 0,
            "converted": history,
            "versions": versions(),
        },
    )


def _checked_targets(loaded: LoadedSet, metadata: Metadata) -> Tensor:
    """Check the targets and return them in the type of the artefact."""
    targets, file = loaded.targets, loaded.files[-1]
    if (targets.dim() == 1) != (metadata.target_kind == "hard-label"):
        raise ArtefactError(
            f"{file}: targets {tuple(targets.shape)} are no {metadata.target_kind} targets; hard"
            " labels are (M,), the other kinds (M, D); see --target-kind"
        )
    if metadata.target_kind != "hard-label":
        return targets.to(torch.float32)
    labels, classes = targets.to(torch.int64), metadata.num_classes or 0
    low, high = int(labels.min()), int(labels.max())
    if not torch.equal(labels.to(targets.dtype), targets) or low < 0 or high >= classes:
        raise DataError(
            f"{file}: labels run from {low} to {high}, expected whole numbers below the"
            f" {classes} classes; see --num-classes and --data"
        )
    return labels


def _digests(root: Path, files: tuple[Path, ...]) -> list[Json]:
    """Return names and SHA-256 of the files; of many, one SHA-256 over all names and digests."""
    folder = (root.parent if root.is_file() else root).resolve()
    digests = {file.resolve().relative_to(folder).as_posix(): sha256(file) for file in files}
    if len(files) > MAX_LISTED:
        lines = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
        joint = hashlib.sha256(lines.encode()).hexdigest()
        digests = {f"{folder.name}: {len(files)} files": joint}
    return [{"name": name, "sha256": digest} for name, digest in digests.items()]


def _without_none(metadata: Metadata) -> dict[str, Any]:
    return {key: value for key, value in vars(metadata).items() if value is not None}


def _json(value: Any) -> Any:
    return value.statistics if isinstance(value, Normalizer) else value
