"""datastill show: what a file is, in words."""

import json
from collections.abc import Callable
from pathlib import Path

import yaml

from datastill.artefact import FORMAT as DISTILLED
from datastill.artefact import DistilledSet
from datastill.command.understand import Command
from datastill.flags import Show
from datastill.ground import checkpoint
from datastill.ground.errors import ArtefactError
from datastill.ground.options import Json
from datastill.ground.tensor_file import format_of, read_checked
from datastill.target_model import FILE_NAME, TargetModel
from datastill.target_model import FORMAT as TARGET_MODEL

FILES = ("distilled.safetensors", FILE_NAME)


def main(command: Command) -> None:
    """Check the file and print its facts as YAML."""
    flags = command.flags
    assert isinstance(flags, Show)
    path = _file(Path(flags.file))
    describe = DESCRIBE.get(format_of(path))
    if describe is None:
        raise ArtefactError(f"{path} is a safetensors file, but not one of datastill")
    print(yaml.safe_dump(describe(path), sort_keys=False, allow_unicode=True), end="")


def _checkpoint(path: Path) -> Json:
    tensors, metadata = read_checked(path, checkpoint.FORMAT, checkpoint.FORMAT_VERSION)
    identity: Json = json.loads(metadata["identity"])
    return {"checkpoint": path.stem, "tensors": len(tensors), "identity": identity}


DESCRIBE: dict[str, Callable[[Path], Json]] = {
    DISTILLED: lambda path: DistilledSet.load(path).describe(),
    TARGET_MODEL: lambda path: TargetModel.load(path).describe(),
    checkpoint.FORMAT: _checkpoint,
}


def _file(path: Path) -> Path:
    """The file itself, or the artefact of a run folder."""
    if not path.is_dir():
        return path
    found = [path / name for name in FILES if (path / name).exists()]
    if not found:
        raise ArtefactError(f"{path} has neither {' nor '.join(FILES)}; give a file")
    return found[0]
