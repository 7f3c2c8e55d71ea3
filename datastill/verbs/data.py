"""datastill data: prepare a data set, or check it."""

import yaml

from datastill.command.understand import Command
from datastill.data._base import source
from datastill.data._check import check, prepare
from datastill.flags import Data
from datastill.verbs._components import folder_of


def main(command: Command) -> None:
    """Print one line per split, or all facts as YAML."""
    flags = command.flags
    assert isinstance(flags, Data)
    found, root = source(flags.data), folder_of(flags.data_root)
    if flags.action == "check":
        facts = check(found, flags.image_size, root)
        print(yaml.safe_dump(facts, sort_keys=False, allow_unicode=True), end="")
        return
    for done in prepare(found, flags.image_size, root):
        print(f"{done.split}: {done.count} images at {done.path or 'no path: embedded'}")
