"""datastill list: components by their public names, and the options of one."""

import importlib
import textwrap
from typing import Any

import yaml

from datastill.command.parser import component_help
from datastill.command.understand import Command
from datastill.experiments.recipe import describe, get_recipe
from datastill.flags import List
from datastill.ground import lookup
from datastill.protocols._base import protocol

# kind -> (package folder, flag that takes a name and its options)
KINDS = {
    "methods": ("datastill.methods", "method"),
    "networks": ("datastill.networks", "network"),
    "objectives": ("datastill.objectives", "objective"),
    "tasks": ("datastill.transfer", ""),
    "data": ("datastill.data", ""),
    "formats": ("datastill.convert", "format"),
    "protocols": ("datastill.protocols", ""),
    "recipes": ("datastill.recipes", ""),
}


def main(command: Command) -> None:
    """Print one line per component, or all about one."""
    flags = command.flags
    assert isinstance(flags, List)
    if not flags.kind:
        print("\n\n".join(f"{kind}\n{_all(kind, indent='  ')}" for kind in KINDS))
        return
    lookup.check_name(flags.kind, KINDS, kind="kinds")
    if not flags.name:
        print(_all(flags.kind))
        return
    lookup.check_name(flags.name, lookup.names(KINDS[flags.kind][0]), kind=flags.kind)
    print(f"{flags.name}: {_summary(flags.kind, flags.name)}\n{_about(flags.kind, flags.name)}")


def _all(kind: str, indent: str = "") -> str:
    names = lookup.names(KINDS[kind][0])
    return "\n".join(f"{indent}{name:28s} {_summary(kind, name)}" for name in names)


def _about(kind: str, name: str) -> str:
    if kind == "data":
        return _facts(name)
    if kind == "recipes":
        return _yaml(get_recipe(name))
    if kind == "protocols":
        return _yaml(protocol(name))
    prefix = KINDS[kind][1] or name.replace("-", "_")
    return component_help(prefix, lookup.find(KINDS[kind][0], name))


def _facts(name: str) -> str:
    found = lookup.find("datastill.data", name)
    counts = ", ".join(f"{split} {count}" for split, count in found.counts.items())
    facts = {
        "licence": found.licence,
        "citation": found.citation,
        "images": counts or "as many as there are",
        "classes": found.num_classes,
        "native size": found.native_size,
        "channels": found.channels,
    }
    return "\n".join(f"  {k}: {v}" for k, v in facts.items() if v is not None)


def _yaml(value: Any) -> str:
    text = yaml.safe_dump(describe(value), sort_keys=False, allow_unicode=True)
    return textwrap.indent(text.rstrip(), "  ")


def _summary(kind: str, name: str) -> str:
    """What it is, and for data under which licence."""
    folder = KINDS[kind][0]
    module = importlib.import_module(f"{folder}.{name.replace('-', '_')}")
    said = str(module.__doc__).partition("\n")[0]
    return f"{said} Licence: {lookup.find(folder, name).licence}." if kind == "data" else said
