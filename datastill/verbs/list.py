"""datastill list: components by their public names, and the options of one."""

import importlib

from datastill.flags import List
from datastill.ground import lookup
from datastill.ground.options import Json, Option, options

FOLDERS = {
    "methods": "datastill.methods",
    "networks": "datastill.networks",
    "data": "datastill.data",
    "objectives": "datastill.objectives",
    "tasks": "datastill.transfer",
    "recipes": "datastill.recipes",
}


def main(flags: List, groups: Json, config: Json) -> None:
    """Print one line per component, or one line per option."""
    lookup.check_name(flags.kind, FOLDERS, kind="kinds")
    folder = FOLDERS[flags.kind]
    if flags.name is None or flags.kind == "recipes":
        for name in lookup.names(folder):
            print(f"{name:16s} {_summary(folder, name)}")
        return
    found = lookup.find(folder, flags.name)
    print(f"{flags.name}: {_summary(folder, flags.name)}")
    for fact in ("licence", "citation", "splits", "native_size"):
        if flags.kind == "data":
            print(f"  {fact}: {getattr(found, fact)}")
    for option in options(found):
        print(_line(option))


def _summary(folder: str, name: str) -> str:
    """The first line of the module's docstring, which says what it is."""
    document = importlib.import_module(f"{folder}.{name.replace('-', '_')}").__doc__ or ""
    return document.partition("\n")[0]


def _line(option: Option) -> str:
    return f"  {option.name} = {option.default!r}  ({option.help})"
