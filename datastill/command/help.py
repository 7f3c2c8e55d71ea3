"""What `--help` says, of datastill as a whole and of each verb; no component is imported for it."""

import dataclasses
import textwrap
from collections.abc import Sequence
from typing import Any

from datastill.command.understand import Group, chosen_groups
from datastill.command.values import choices, expected
from datastill.command.words import flag_of, said
from datastill.flags import NAMED_IN, VERBS, Component, Verb
from datastill.ground import lookup
from datastill.ground.options import Option, options

WIDTH = 100
INDENT = 34
VALUES = {"out": "DIR", "data_root": "DIR", "target": "DIR", "config": "FILE"}
OF_KIND = {"a whole number": "N", "a number": "X"}
CONFIG = Option("config", str, "", "YAML file with flags, such as the config.yaml of a run")


def overview() -> str:
    """Every verb in one line."""
    verbs = "\n".join(f"  {name:10s} {verb.flags.__doc__}" for name, verb in VERBS.items())
    return (
        "datastill: self-supervised dataset distillation for transfer learning\n\n"
        f"usage: datastill VERB ...\n\n{verbs}\n\n"
        "'datastill VERB --help' explains the flags of a verb, 'datastill list' what there is to\n"
        "choose from. Start with: datastill run quick"
    )


def verb_help(name: str, words: Sequence[str]) -> str:
    """All flags of a verb, with those of the components that the words name."""
    verb = VERBS[name]
    fields = [f for f in dataclasses.fields(verb.flags) if f.metadata["help"]]
    loose = [f for f in fields if f.metadata.get("word")]
    needed = [f for f in fields if f not in loose and not f.metadata.get("optional", True)]
    own = [o for o in options(verb.flags) if o.name in {f.name for f in fields if f not in loose}]
    if "resume" in {o.name for o in own}:
        own.append(CONFIG)
    usage = ["usage: datastill", name, *map(_placeholder, loose)]
    usage += [f"{flag_of(f.name)} {_value(f.name, f.type)}" for f in needed]
    usage += ["[--flag VALUE ...]"] if own else []
    parts = [" ".join(usage), f"{verb.flags.__doc__}\nFor example: {verb.example}"]
    parts += ["\n".join(_line(f"  {_placeholder(f)}", _help(f)) for f in loose)] if loose else []
    parts += ["\n".join(["flags", *(_flag_line(o.name, o) for o in own)])] if own else []
    groups = chosen_groups(verb, said(verb, words))
    parts += [_group_text(verb, group) for group in groups]
    parts += [_choice(c) for c in verb.components if c.flag not in {g.key for g in groups}]
    return "\n\n".join(parts)


def option_lines(found: Sequence[Option], prefix: str) -> list[str]:
    """One entry for each option of a component, as flags that begin with `prefix`."""
    return [_flag_line(f"{prefix}.{o.name}", o) for o in found]


def _group_text(verb: Verb, group: Group) -> str:
    component = next((c for c in verb.components if c.flag == group.key), None)
    title = f"{flag_of(group.key).lstrip('-')} {group.name}".strip()
    lines = [title if component is None else f"{title}   ({_choice(component)})"]
    return "\n".join([*lines, *option_lines(group.options(), group.key)])


def _choice(component: Component) -> str:
    default = f"; default: {component.default}" if component.default else ""
    return f"--{component.flag} {' | '.join(lookup.names(component.folder))}{default}"


def _placeholder(field: "dataclasses.Field[Any]") -> str:
    name = field.name.upper()
    name = f"{name.removesuffix('S')} ..." if field.name.endswith("s") else name
    return f"[{name}]" if field.metadata["optional"] else name


def _help(field: "dataclasses.Field[Any]") -> str:
    return f"{field.metadata['help']}{_names(field.name)}"


def _names(name: str) -> str:
    return f" ({', '.join(lookup.names(NAMED_IN[name]))})" if name in NAMED_IN else ""


def _flag_line(key: str, option: Option) -> str:
    value = "" if option.type is bool and not option.default else _value(key, option.type)
    text = f"{option.help}{_names(key)}{_default(option.default)}"
    return _line(f"  {flag_of(key)} {value}".rstrip(), text)


def _value(key: str, kind: Any) -> str:
    """What stands for the value of a flag."""
    if key in VALUES or key in NAMED_IN:
        value = VALUES.get(key, "NAME")
        return f"{value},.." if "separated" in expected(kind) else value
    if kind is bool:
        return "true|false"
    if found := choices(kind):
        return "|".join(["N", *found] if "number" in expected(kind) else found)
    return "A,B,.." if "separated" in expected(kind) else OF_KIND.get(expected(kind), "TEXT")


def _default(default: Any) -> str:
    if default is None or default == "" or default is False or default == ():
        return ""
    values = default if isinstance(default, tuple) else (default,)
    words = (f"{v:g}" if isinstance(v, float) else str(v) for v in values)
    return f"; default: {','.join(words).replace('True', 'true')}"


def _line(left: str, right: str) -> str:
    """`left` in its column, `right` wrapped beside it."""
    lines = textwrap.wrap(right, WIDTH - INDENT, break_on_hyphens=False) or [""]
    head = (
        [f"{left:{INDENT}s}{lines[0]}"] if len(left) < INDENT else [left, " " * INDENT + lines[0]]
    )
    return "\n".join([*head, *(" " * INDENT + line for line in lines[1:])])
