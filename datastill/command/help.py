"""How help reads: the overview, and each flag in what argparse prints."""

import argparse
import dataclasses
import textwrap
from typing import Any

import jsonargparse

from datastill.command.values import choices, expected, is_list
from datastill.command.words import flag_of
from datastill.flags import NAMED_IN, VERBS, Verb
from datastill.ground import lookup
from datastill.ground.options import Option, options

WIDTH = 100
INDENT = 34
VALUES = {"out": "DIR", "data_root": "DIR", "target": "DIR", "config": "FILE"}
OF_KIND = {"a whole number": "N", "a number": "X"}


class Formatter(argparse.RawDescriptionHelpFormatter, jsonargparse.DefaultHelpFormatter):
    """Help texts as they are: defaults are in them already, in readable words."""

    def __init__(self, prog: str) -> None:
        argparse.HelpFormatter.__init__(self, prog, max_help_position=INDENT, width=WIDTH)

    def _expand_help(self, action: argparse.Action) -> str:
        return action.help or ""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        return super()._format_action_invocation(action).replace(".name ", " ")

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)


def overview() -> str:
    """Every verb in one line."""
    verbs = "\n".join(f"  {name:10s} {verb.flags.__doc__}" for name, verb in VERBS.items())
    return (
        "datastill: self-supervised dataset distillation for transfer learning\n\n"
        f"usage: datastill VERB ...\n\n{verbs}\n\n"
        "'datastill VERB --help' explains the flags of a verb, 'datastill list' what there is to\n"
        "choose from. Start with: datastill run quick"
    )


def about(name: str) -> str:
    """What a verb does, and how one would call it."""
    return f"{VERBS[name].flags.__doc__}\nFor example: {VERBS[name].example}"


def usage(name: str) -> str:
    """The words of a verb and the flags that it needs."""
    verb, line = VERBS[name], ["datastill", name]
    fields = dataclasses.fields(verb.flags)
    for o, field in zip(options(verb.flags), fields, strict=True):
        if field.metadata.get("word"):
            line.append(placeholder(verb, o.name))
        elif not field.metadata.get("optional", True):
            line.append(f"{flag_of(o.name)} {value(o.name, o)}")
    return " ".join([*line, *(["[--flag VALUE ...]"] * ("out" in {f.name for f in fields}))])


def placeholder(verb: Verb, word: str) -> str:
    """What stands for a word without a flag."""
    field = verb.flags.__dataclass_fields__[word]
    name = f"{word.upper().removesuffix('S')} ..." if word.endswith("s") else word.upper()
    return f"[{name}]" if field.metadata["optional"] else name


def value(key: str, option: Option) -> str:
    """What stands for the value of a flag; nothing does for a switch."""
    if option.type is bool:
        return "true|false" if option.default else ""
    if key in VALUES or key in NAMED_IN or key.endswith(".name"):
        return VALUES.get(key, "NAME") + (",.." if is_list(option.type) else "")
    if found := choices(option.type):
        return "|".join(["N", *found] if "number" in expected(option.type) else found)
    return "A,B,.." if is_list(option.type) else OF_KIND.get(expected(option.type), "TEXT")


def explained(key: str, option: Option) -> str:
    """What a flag is for, the names that it takes, and its default; hidden where that is empty."""
    names = f" ({', '.join(lookup.names(NAMED_IN[key]))})" if key in NAMED_IN else ""
    return f"{option.help}{names}{_default(option.default)}" or argparse.SUPPRESS


def _default(default: Any) -> str:
    if default is None or default == "" or default is False or default == ():
        return ""
    values = default if isinstance(default, tuple) else (default,)
    words = (f"{v:g}" if isinstance(v, float) else str(v) for v in values)
    return f"; default: {','.join(words).replace('True', 'true')}"
