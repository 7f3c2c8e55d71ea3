"""The command line: verbs on jsonargparse; `--help` answers without importing torch.

Exit codes: 0 done; 2 bad input (a message, no traceback); 130 interrupted; 1 anything else.
"""

import argparse
import difflib
import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonargparse
import yaml

from datastill.flags import VERBS, Component
from datastill.ground import lookup
from datastill.ground.errors import ConfigError, DatastillError
from datastill.ground.options import Json, options

TASKS = "datastill.transfer"
HELP = ("-h", "--help")
NOT_IN_CONFIG = ("config", "out", "resume")  # where a run stands is not what it is


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            return _run(words)
        except DatastillError as error:
            print(f"datastill: error: {error}", file=sys.stderr)
            return 2
        except BrokenPipeError:  # the reader of our output has seen enough
            sys.stderr.close()
            return 0
        except KeyboardInterrupt:
            print("datastill: interrupted; --resume continues", file=sys.stderr)
            return 130


def _run(words: list[str]) -> int:
    if not words or words[0] in HELP:
        print(_overview())
        return 0
    if words[0] == "--version":
        print(version("datastill"))
        return 0
    verb, rest = words[0], words[1:]
    lookup.check_name(verb, VERBS, kind="verbs")
    wants_help = any(word in HELP for word in rest)
    rest = _canonical(verb, rest)
    parser = _parser(verb, {} if wants_help else _chosen(verb, rest))
    if wants_help:
        parser.print_help()
        return 0
    values = _parse(parser, rest)
    module = importlib.import_module(f"datastill.verbs.{verb}")
    flags_class = VERBS[verb][0]
    names = [o.name for o in options(flags_class)]
    flags = flags_class(**{k: _tuple(values[k]) for k in names})
    groups = {k: v for k, v in values.items() if k not in names and isinstance(v, dict)}
    config = {k: v for k, v in values.items() if k not in NOT_IN_CONFIG}
    module.main(flags, groups, config)
    return 0


def _overview() -> str:
    verbs = "\n".join(f"  {v:10s} {cls.__doc__}" for v, (cls, _) in VERBS.items())
    return (
        "datastill: self-supervised dataset distillation for transfer learning\n\n"
        f"usage: datastill VERB ...\n\n{verbs}\n\n"
        "'datastill VERB --help' lists the flags of a verb, 'datastill list methods krr-st' those\n"
        "of a component. Start with: datastill run quick"
    )


def _parser(verb: str, chosen: dict[str, type[Any]]) -> jsonargparse.ArgumentParser:
    """Driver flags, a config file, and the options of the chosen components."""
    flags_class, components = VERBS[verb]
    parser = jsonargparse.ArgumentParser(
        prog=f"datastill {verb}",
        description=flags_class.__doc__,
        exit_on_error=False,
        allow_abbrev=False,
    )
    for o in options(flags_class):
        positional = flags_class.__dataclass_fields__[o.name].metadata.get("positional")
        if positional:
            nargs = {} if positional == "1" else {"nargs": positional}
            kind = str if positional == "+" else o.type
            parser.add_argument(o.name, type=kind, help=o.help, **nargs)
        else:
            flag = "--" + o.name.replace("_", "-")
            action = {"action": "store_true"} if o.name == "resume" else {"type": o.type}
            parser.add_argument(flag, default=o.default, help=o.help, **action)
    parser.add_argument("--config", action="config", help="YAML file with any of these flags")
    for component in components:
        known = ", ".join(lookup.names(component.folder))
        parser.add_argument(
            f"--{component.flag}.name",
            type=str,
            default=component.default,
            help=f"one of: {known} (--{component.flag} NAME is the same)",
        )
    for group, cls in chosen.items():
        for o in options(cls):
            parser.add_argument(f"--{group}.{o.name}", type=o.type, default=o.default, help=o.help)
    return parser


def _canonical(verb: str, words: list[str]) -> list[str]:
    """`--method X` is short for `--method.name X`; dashes in component options are underscores."""
    short = {f"--{c.flag}": f"--{c.flag}.name" for c in VERBS[verb][1]}
    found = []
    for word in words:
        name, equals, value = word.partition("=")
        if name.startswith("--") and "." in name:
            name = "--" + name.removeprefix("--").replace("-", "_")
        found.append(short.get(name, name) + equals + value)
    return found


def _chosen(verb: str, words: list[str]) -> dict[str, type[Any]]:
    """Flag group -> component class, for all components that this command line names."""
    file = _read_config(_value_of("--config", words))
    chosen = {}
    for component in VERBS[verb][1]:
        if name := _name_of(component, words, file):
            chosen[component.flag] = lookup.find(component.folder, name)
    if verb == "target":
        chosen["views"] = importlib.import_module("datastill.augment.views").TwoViews
    if verb == "transfer":
        for task in (_value_of("--task", words) or file.get("task", "linear-probe")).split(","):
            chosen[task.replace("-", "_")] = lookup.find(TASKS, task)
    return chosen


def _name_of(component: Component, words: list[str], file: Json) -> str:
    in_file = file.get(component.flag, {}).get("name")
    return _value_of(f"--{component.flag}.name", words) or in_file or component.default


def _value_of(flag: str, words: list[str]) -> str | None:
    """The last value given to a flag, as `--flag VALUE` or `--flag=VALUE`."""
    found = None
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == flag:
            found = following
        elif word.startswith(flag + "="):
            found = word.partition("=")[2]
    return found


def _read_config(path: str | None) -> Json:
    if path is None:
        return {}
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"--config {path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"--config {path} must hold flags and their values")
    return values


def _parse(parser: jsonargparse.ArgumentParser, words: list[str]) -> Json:
    try:
        parsed: Json = parser.parse_args(words).as_dict()
    except argparse.ArgumentError as error:
        message = " ".join(str(error).split())
        raise ConfigError(message + _nearest(parser, words)) from error
    return parsed


def _nearest(parser: jsonargparse.ArgumentParser, words: list[str]) -> str:
    """A hint for the first flag that does not exist."""
    known = [flag for action in parser._actions for flag in action.option_strings]
    for word in words:
        name = word.partition("=")[0]
        if name.startswith("--") and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            return f"; did you mean {near[0]}?" if near else ""
    return ""


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"datastill: warning: {message}", file=sys.stderr)
