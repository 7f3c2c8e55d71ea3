"""Describe a distilled set, target model, network or checkpoint, after verifying its SHA-256."""

import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from datastill.cli.parser import CommandParser
from datastill.core import checkpoint
from datastill.core.errors import ArtefactError
from datastill.core.options import Json
from datastill.core.tensor_file import format_of, read_checked
from datastill.distilled_set import FORMAT as DISTILLED
from datastill.distilled_set import DistilledSet
from datastill.pretrained_network import FORMAT as NETWORK
from datastill.pretrained_network import PretrainedNetwork
from datastill.stored_form.stored import BASIS_FORMAT, BASIS_VERSION
from datastill.target_model import FILE_NAME, TargetModel
from datastill.target_model import FORMAT as TARGET_MODEL

FILES = ("distilled.safetensors", FILE_NAME)


def make_parser(arguments: Sequence[str]) -> CommandParser:
    """Return the parser of the command."""
    parser = CommandParser(
        "show",
        arguments,
        __doc__,
        "datastill show runs/mine/distilled.safetensors",
        required=("file",),
    )
    parser.add_positional("file", "the file, or its run folder")
    return parser


def run(config: Json) -> None:
    """Verify the file and print its description as YAML."""
    path = _file(Path(config["file"]))
    form = format_of(path)
    if form == DISTILLED:
        description = DistilledSet.load(path).describe()
    elif form == TARGET_MODEL:
        description = TargetModel.load(path).describe()
    elif form == NETWORK:
        description = PretrainedNetwork.load(path).describe()
    elif form == checkpoint.FORMAT:
        tensors, metadata = read_checked(path, checkpoint.FORMAT, checkpoint.FORMAT_VERSION)
        identity = json.loads(metadata["identity"])
        description = {"checkpoint": path.stem, "tensors": len(tensors), "identity": identity}
    elif form == BASIS_FORMAT:
        tensors, _ = read_checked(path, BASIS_FORMAT, BASIS_VERSION)
        description = {"target_basis": path.stem, **{k: list(x.shape) for k, x in tensors.items()}}
    else:
        raise ArtefactError(f"{path} is a safetensors file, but not one of datastill")
    print(yaml.safe_dump(description, sort_keys=False, allow_unicode=True), end="")


def _file(path: Path) -> Path:
    """Return the file itself, or the artefact in a run folder."""
    if not path.is_dir():
        return path
    present = [path / name for name in FILES if (path / name).exists()]
    if not present:
        raise ArtefactError(f"{path} has neither {' nor '.join(FILES)}; give a file")
    return present[0]
