"""From files of another project to an artefact: what is implied, what is given, what is kept."""

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datastill.convert.format import Facts, Format, LoadedSet
from datastill.core.atomic import sha256
from datastill.core.errors import ArtefactError, ConfigError, DataError
from datastill.core.lookup import find, names, public_name
from datastill.core.options import Json, to_json
from datastill.core.progress import logger
from datastill.core.run_folder import versions
from datastill.data.source import source
from datastill.distilled_set import DistilledSet
from datastill.images import Normalizer
from datastill.target_model import TargetModel

FORMATS = "datastill.convert"
LISTED = 10  # files whose digests are stored one by one
FLAGS = {
    "method": "--method NAME (what made the set, such as dsa)",
    "source": "--data NAME (what was distilled; --source NAME where it is no data of datastill)",
    "pixel_space": "--pixel-space unit|normalized|raw (how a network is fed: docs/artefact.md)",
    "target_kind": "--target-kind hard-label|soft-label|representation",
    "num_classes": "--num-classes K",
    "normalizer": "--mean A,B,C --std A,B,C (of unit pixels; or --data NAME: of that source)",
}


@dataclass(frozen=True)
class Asked:
    """What the user passes beside the files of a set."""

    facts: Facts = Facts()
    data: str | None = None  # a source of ours, for its classes and statistics
    data_root: Path | None = None
    target: TargetModel | None = None  # makes the targets, where the format has none


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
        looks = "; ".join(f"{name}: {known.looks_like}" for name, known in formats.items())
        raise ConfigError(f"{path} fits {fits} by its name; add --format NAME ({looks})")
    return formats[fitting[0]]


def convert(path: Path, chosen: Format, asked: Asked) -> DistilledSet:
    """Read a foreign set as an artefact; what is filled in, and why, is printed on stderr.

    Args:
        path: A file or folder of the set.
        chosen: Its format, such as `guess_format(path)`.
        asked: Metadata that are given; they win over those that the format implies.

    Returns:
        The set, with the history of its conversion in `provenance["converted"]`.

    Raises:
        DatastillError: The files cannot be used, or metadata are missing.
    """
    name = public_name(chosen)
    if asked.target is not None and not chosen.takes_target:
        raise ConfigError(f"--target is for sets without targets; {name} has its own")
    if not path.exists():
        raise ArtefactError(f"there is no {path}")
    loaded = chosen.read(path, asked.target)
    given = _without_none(asked.facts)
    filled, reasons = _fill_in(name, loaded, given, asked)
    values = given | filled
    missing = [*loaded.missing, *(flag for key, flag in FLAGS.items() if key not in values)]
    if values.get("target_kind") != "hard-label":
        missing = [flag for flag in missing if flag != FLAGS["num_classes"]]
    if missing:
        raise ConfigError(f"{path} does not say all that is needed; add {'; '.join(missing)}")
    for key, value in filled.items():
        logger.info(f"{key} {_json(value)}: {reasons[key]}")
    logger.info(f"pixels from {loaded.images.min():.3g} to {loaded.images.max():.3g}")
    history = {
        "format": {"name": name, **to_json(chosen)},
        "files": _digests(path, loaded.files),
        "given": {key: _json(value) for key, value in given.items()},
        "implied": {key: _json(value) for key, value in filled.items()},
    }
    return _to_artefact(loaded, Facts(**values), history)


def _fill_in(
    name: str, loaded: LoadedSet, given: Json, asked: Asked
) -> tuple[dict[str, Any], dict[str, str]]:
    """The values that are not given, and why they are what they are."""
    filled = {key: v for key, v in _without_none(loaded.implied).items() if key not in given}
    reasons = dict.fromkeys(filled, f"implied by {name} and its names")

    def add(key: str, value: Any, reason: str) -> None:
        if value is not None and key not in given and key not in filled:
            filled[key], reasons[key] = value, reason

    source_name = str((given | filled).get("source", ""))
    statistics = loaded.statistics.get(source_name)
    add("normalizer", statistics, f"what the code of {name} uses for {source_name}")
    if asked.data is not None:
        ours = source(asked.data)
        add("num_classes", ours.num_classes, f"of {asked.data}")
        if "normalizer" not in given | filled:
            images = ours.load("train", loaded.images.shape[2], asked.data_root)
            add("normalizer", images.normalizer, f"measured on {images.name} as prepared here")
    return filled, reasons


def _to_artefact(loaded: LoadedSet, facts: Facts, history: Json) -> DistilledSet:
    assert facts.target_kind and facts.pixel_space and facts.normalizer, "checked before"
    channels, statistics = loaded.images.shape[1], len(facts.normalizer.mean)
    if channels != statistics:
        raise ConfigError(
            f"the images have {channels} channels, mean and std {statistics};"
            " give --mean and --std with one number per channel, or another --data"
        )
    is_hard, target = facts.target_kind == "hard-label", loaded.target
    return DistilledSet(
        loaded.images,
        _checked_targets(loaded, facts),
        target_kind=facts.target_kind,
        pixel_space=facts.pixel_space,
        normalizer=facts.normalizer,
        provenance={
            "method": {"name": facts.method, "variant": "converted", "options": {}},
            "source": {"name": f"{facts.source}/train"},
            "target": target and {"fingerprint": target.fingerprint, **target.provenance},
            "count": len(loaded.images),
            "classes": list(loaded.classes) if facts.num_classes == len(loaded.classes) else [],
            "num_classes": facts.num_classes if is_hard else 0,
            "converted": history,
            "versions": versions(),
        },
    )


def _checked_targets(loaded: LoadedSet, facts: Facts) -> Tensor:
    """The targets in the type of the artefact."""
    targets, file = loaded.targets, loaded.files[-1]
    if (targets.dim() == 1) != (facts.target_kind == "hard-label"):
        raise ArtefactError(
            f"{file}: targets {tuple(targets.shape)} are no {facts.target_kind} targets; hard"
            " labels are (M,), the other kinds (M, D); see --target-kind"
        )
    if facts.target_kind != "hard-label":
        return targets.to(torch.float32)
    labels, classes = targets.to(torch.int64), facts.num_classes or 0
    low, high = int(labels.min()), int(labels.max())
    if not torch.equal(labels.to(targets.dtype), targets) or low < 0 or high >= classes:
        raise DataError(
            f"{file}: labels run from {low} to {high}, expected whole numbers below the"
            f" {classes} classes; see --num-classes and --data"
        )
    return labels


def _digests(root: Path, files: tuple[Path, ...]) -> list[Json]:
    """Names and SHA-256 of the files; of many, one SHA-256 over all names and digests."""
    folder = root.parent if root.is_file() else root
    digests = [
        {"name": file.resolve().relative_to(folder.resolve()).as_posix(), "sha256": sha256(file)}
        for file in files
    ]
    if len(files) <= LISTED:
        return digests
    lines = "".join(f"{file['sha256']}  {file['name']}\n" for file in digests)
    joint = hashlib.sha256(lines.encode()).hexdigest()
    return [{"name": f"{root.resolve().name}: {len(files)} files", "sha256": joint}]


def _without_none(facts: Facts) -> dict[str, Any]:
    values = {field.name: getattr(facts, field.name) for field in fields(facts)}
    return {key: value for key, value in values.items() if value is not None}


def _json(value: Any) -> Any:
    return value.statistics if isinstance(value, Normalizer) else value
