"""List methods, networks, data sets, tasks, recipes, ...; with a name, the options of one."""

import importlib
import textwrap
from collections.abc import Sequence
from typing import Any

import yaml

from datastill.cli.parser import CommandParser
from datastill.core import lookup
from datastill.core.options import Json
from datastill.experiments.recipe import describe, get_recipe
from datastill.protocols.protocol import protocol

SAME_NAME = ("methods", "networks", "objectives", "data", "protocols", "recipes")
PACKAGES = {kind: f"datastill.{kind}" for kind in SAME_NAME}
PACKAGES |= {"tasks": "datastill.transfer", "formats": "datastill.convert"}


def make_parser(arguments: Sequence[str]) -> CommandParser:
    """Return the parser of the command."""
    parser = CommandParser("list", arguments, __doc__, "datastill list methods krr-st")
    parser.add_positional("kind", f"what to list: {', '.join(PACKAGES)}; default: everything")
    parser.add_positional("name", "one of them")
    return parser


def run(config: Json) -> None:
    """Print one line per component, or all about one."""
    kind, name = config["kind"], config["name"]
    if not kind:
        print("\n\n".join(f"{kind}\n{textwrap.indent(_lines(kind), '  ')}" for kind in PACKAGES))
        return
    lookup.check_name(kind, PACKAGES, kind="kinds")
    if not name:
        print(_lines(kind))
        return
    lookup.check_name(name, lookup.names(PACKAGES[kind]), kind=kind)
    print(f"{name}: {_summary(kind, name)}\n{textwrap.indent(_about(kind, name), '  ')}")


def _lines(kind: str) -> str:
    return "\n".join(f"{x:28s} {_summary(kind, x)}" for x in lookup.names(PACKAGES[kind]))


def _summary(kind: str, name: str) -> str:
    """Return the first line of the docstring; for data sets, the licence too."""
    module = importlib.import_module(f"{PACKAGES[kind]}.{name.replace('-', '_')}")
    summary = str(module.__doc__).partition("\n")[0]
    if kind == "data":
        return f"{summary} Licence: {lookup.find(PACKAGES[kind], name).licence}."
    return summary


def _about(kind: str, name: str) -> str:
    """Return the facts of a data set, the values of a recipe or protocol, or the flags."""
    if kind == "data":
        return _data_set(name)
    if kind in ("recipes", "protocols"):
        value: Any = get_recipe(name) if kind == "recipes" else protocol(name)
        return yaml.safe_dump(describe(value), sort_keys=False, allow_unicode=True).rstrip()
    parser = CommandParser("list", [])
    prefix = name.replace("-", "_") if kind == "tasks" else kind.removesuffix("s")
    parser.add_options(lookup.find(PACKAGES[kind], name), prefix)
    return parser.help().partition("flags:\n")[2]


def _data_set(name: str) -> str:
    data = lookup.find("datastill.data", name)
    counts = ", ".join(f"{split} {count}" for split, count in data.counts.items())
    values = {
        "licence": data.licence,
        "citation": data.citation,
        "images": counts or "as many as there are",
        "classes": data.num_classes,
        "native size": data.native_size,
        "channels": data.channels,
    }
    return "\n".join(f"{key}: {value}" for key, value in values.items() if value is not None)
