"""datastill show: what a file is, in words."""

from pathlib import Path

import yaml

from datastill.artefact import DistilledSet
from datastill.flags import Show
from datastill.ground.options import Json
from datastill.target_model import FILE_NAME, TargetModel


def main(flags: Show, groups: Json, config: Json) -> None:
    """Check the file and print its facts as YAML."""
    path = Path(flags.file)
    if path.name == FILE_NAME or (path / FILE_NAME).exists():
        facts = TargetModel.load(path).describe()
    else:
        facts = DistilledSet.load(path).describe()
    print(yaml.safe_dump(facts, sort_keys=False, allow_unicode=True), end="")
