"""datastill data: prepare a data set, or check it."""

from pathlib import Path

import yaml

from datastill.data._base import source
from datastill.data._check import check, prepare
from datastill.flags import Data
from datastill.ground.options import Json


def main(flags: Data, groups: Json, config: Json) -> None:
    """Print one line per split, or all facts as YAML."""
    found = source(flags.name)
    root = None if flags.data_root is None else Path(flags.data_root)
    if flags.action == "check":
        facts = check(found, flags.image_size, root)
        print(yaml.safe_dump(facts, sort_keys=False, allow_unicode=True), end="")
        return
    for done in prepare(found, flags.image_size, root):
        print(f"{done.split}: {done.count} images at {done.path or 'no path: embedded'}")
