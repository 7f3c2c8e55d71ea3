"""datastill list: components by their public names, and the options of one."""

import importlib
import textwrap

import yaml

from datastill.command.help import option_lines
from datastill.command.understand import Command
from datastill.flags import List
from datastill.ground import lookup
from datastill.ground.outline import class_constant, outline, summary

# kind -> (package folder, flag that takes a name and its options)
KINDS = {
    "methods": ("datastill.methods", "method"),
    "networks": ("datastill.networks", "network"),
    "objectives": ("datastill.objectives", "objective"),
    "tasks": ("datastill.transfer", ""),
    "data": ("datastill.data", ""),
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
    return "\n".join(f"{indent}{name:16s} {_summary(kind, name)}" for name in names)


def _about(kind: str, name: str) -> str:
    if kind == "data":
        return _facts(name)
    if kind == "recipes":
        return _recipe(name)
    prefix = KINDS[kind][1] or name.replace("-", "_")
    return "\n".join(option_lines(outline(_module(kind, name)), prefix))


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


def _recipe(name: str) -> str:
    base = importlib.import_module("datastill.recipes._base")  # here: only recipes need torch
    text = yaml.safe_dump(base.describe(base.named(name)), sort_keys=False, allow_unicode=True)
    return textwrap.indent(text.rstrip(), "  ")


def _summary(kind: str, name: str) -> str:
    """What it is, and for data under which licence."""
    said = summary(_module(kind, name))
    if kind != "data":
        return said
    return f"{said} Licence: {class_constant(_module(kind, name), 'licence')}."


def _module(kind: str, name: str) -> str:
    return f"{KINDS[kind][0]}.{name.replace('-', '_')}"
