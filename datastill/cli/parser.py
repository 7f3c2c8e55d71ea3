"""The parser of one command: jsonargparse, with flags made from the fields of option dataclasses.

A component (a method, a network, ...) is chosen by name, as in `--method krr-st`; the fields of its
class then are flags too, such as `--method.outer_steps`. Which components are chosen must therefore
be known before the flags are: `CommandParser.value_of` reads a single flag ahead of the others.
"""

import argparse
import difflib
import json
import re
import textwrap
import typing
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

import yaml
from jsonargparse import ArgumentParser

from datastill.core import lookup
from datastill.core.errors import ConfigError
from datastill.core.options import Json, Option, options, type_text

REMOVED = ("graphs",)  # flags of earlier versions, which their config.yaml still has
PLURALS = {int: "whole numbers", float: "numbers", str: "names"}
METAVARS = {int: "N", float: "X", bool: "true|false"}


class CommandParser(ArgumentParser):
    """Parser of the arguments of one command, and of the config.yaml that they name.

    Values on the command line win over those of the file, which win over the defaults.

    Args:
        name: Name of the command.
        arguments: The words after it.
        description: What the command does.
        example: A command line that works.
        required: Names of positional arguments and flags that must be given.

    Raises:
        ConfigError: The config file cannot be read.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        description: str | None = None,
        example: str = "",
        required: Sequence[str] = (),
    ) -> None:
        super().__init__(
            prog=f"datastill {name}",
            description=f"{(description or '').strip()}\n\nExample: {example}",
            formatter_class=_Formatter,
            exit_on_error=False,
            allow_abbrev=False,
            add_help=False,
        )
        self.example, self.required = example, required
        self.options: dict[str, Option] = {}  # by their keys, such as method.outer_steps
        self.positionals: list[str] = []
        self.components: dict[str, type | None] = {}  # chosen class of flags such as `method`
        self.selectable: dict[str, str] = {}  # package of the components in flags such as `task`
        # Pairs of a key and its value: those of the config file, and those of the command line,
        # where a positional argument has the key "" and a flag without a value has None.
        self.written: list[tuple[str, Any]] = []
        self.typed = list(_pairs(arguments))
        self.written = list(_written(self._config_file()))

    def value_of(self, key: str) -> Any:
        """Return the value of one flag before everything is parsed, or None."""
        pairs = [*self.written, *self.typed]
        return next((v for k, v in reversed(pairs) if k in (key, f"{key}.name")), None)

    def add_positional(self, name: str, text: str, *, many: bool = False) -> None:
        """Add an argument without a flag, or `many` of them; what is not given is empty."""
        self.options[name] = Option(name, str, [] if many else "", text)
        self.positionals.append(name)
        number = "*" if many else "?"
        self.add_argument(name, nargs=number, type=str, metavar=name.upper(), help=text)

    def add_options(
        self, cls: type, prefix: str = "", *, only: Sequence[str] = (), title: str = "flags"
    ) -> None:
        """Add the fields of a dataclass as flags.

        Args:
            cls: Dataclass whose fields are made by `option`.
            prefix: What the flags begin with, such as `method` for `--method.outer_steps`.
            only: Names of the fields. Default: all of them.
            title: Heading of the flags in the help.
        """
        group = self.add_argument_group(title)
        for option in options(cls):
            if not only or option.name in only:
                self._add_flag(group, f"{prefix}.{option.name}".lstrip("."), option)

    def add_component(self, flag: str, package: str, default: str | None = None) -> None:
        """Add a flag that names a component, and the options of the one that is chosen.

        Args:
            flag: Such as `method`. `--method krr-st:5` also sets the first option.
            package: The package with one file per component, such as `datastill.methods`.
            default: Name of the component that is taken if none is named.

        Raises:
            ConfigError: There is no such component.
        """
        listed = Option("name", str | None, default, ", ".join(lookup.names(package)))
        self._add_flag(self.add_argument_group(flag), f"{flag}.name", listed)
        self.components[flag] = None
        text = self.value_of(flag) or default
        if text is None:
            return
        name, colon, value = str(text).partition(":")
        cls = self.components[flag] = lookup.find(package, name)
        self.add_options(cls, flag, title=f"{flag} {name}")
        before = [v for k, v in self.written if k in (flag, f"{flag}.name")] or [default]
        if str(before[-1]).partition(":")[0] != name:  # options of another component are void
            self.written = [(k, v) for k, v in self.written if not k.startswith(f"{flag}.")]
        if colon and not options(cls):
            raise ConfigError(f"--{flag} {name} takes nothing after a colon")
        if colon:
            first = f"{flag}.{options(cls)[0].name}"
            self.typed += [(flag, name), (first, value)]

    def add_components(self, flag: str, package: str, default: Sequence[str]) -> None:
        """Add the options of each component that a flag with a list of names selects.

        Raises:
            ConfigError: There is no such component.
        """
        self.selectable[flag] = package
        names = self.value_of(flag) or default
        names = list(dict.fromkeys(_items(names) if isinstance(names, str) else names))
        for name in names:
            self.add_options(lookup.find(package, name), name.replace("-", "_"), title=name)
        void = tuple(f"{name.replace('-', '_')}." for name in lookup.names(package))
        self.written = [
            x for x in self.written if x[0] in self.options or not x[0].startswith(void)
        ]

    def refuse(self, keys: Iterable[str], reason: str) -> None:
        """Refuse flags that another one excludes; that of a component excludes its options too."""
        excluded = [flag_of(key) for key in keys]
        for key, value in [*self.typed, *self.written]:
            if flag_of(key.partition(".")[0]) in excluded and value != []:
                flag = flag_of(key).removesuffix(".name")
                raise ConfigError(f"{flag} {reason}; leave one of the two out")

    def parse(self) -> Json:
        """Parse the config file and the arguments.

        Returns:
            The values of all flags; those of a component are a dictionary with its `name`.

        Raises:
            ConfigError: A flag is unknown, has no value or a wrong one, or is missing.
        """
        values: Json = self.parse_args(self._spelled()).as_dict()
        values.pop("config", None)
        for name in self.positionals:
            values[name] = values[name] or self.options[name].default
        for name in self.required:
            if not values[name]:
                shown = name if name in self.positionals else flag_of(name)
                raise ConfigError(f"{shown} is missing; for example: {self.example}")
        # A run that was started by an earlier version keeps its flags in config.yaml.
        values |= {key: value for key, value in self.written if key in REMOVED}
        return {k: v for k, v in values.items() if k not in self.components or v["name"]}

    def help(self) -> str:
        """Return the help of the command with the options of its components."""
        parts = [name.upper() for name in self.positionals]
        parts += [f"{flag_of(x)} {x.upper()}" for x in self.required if x not in self.positionals]
        self.usage = " ".join([self.prog, *parts, "[--flag VALUE ...]"])
        return self.format_help().replace(".name NAME", " NAME".ljust(10)).rstrip()

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Turn an error of jsonargparse into a sentence that names flag, value and expectation."""
        text = " ".join(message.split())
        wrong = re.match(r'Parser key "(.+?)":.* (?:Got|Given) value: (.*)$', text)
        if wrong and wrong[1] in self.options:
            key, typed = wrong[1], self.value_of(wrong[1])
            value = typed if isinstance(typed, str) else wrong[2]
            fitting = self.options[key].type
            hint = _nearest(value, choices(fitting))
            raise ConfigError(f"{flag_of(key)} {value}: expected {expected(fitting)}{hint}") from ex
        if extra := re.match(r"[Uu]nrecognized arguments: (\S+)", text):
            raise ConfigError(f"{extra[1]!r} was not expected here; flags begin with two dashes")
        raise ConfigError(f"{self.prog}: {text}") from ex

    def _add_flag(self, group: Any, key: str, option: Option) -> None:
        self.options[key] = option
        text = f"{option.help}{_default(option.default)}".replace("%", "%%")
        form: Json = {"type": option.type, "default": option.default, "metavar": _metavar(option)}
        group.add_argument(flag_of(key), **form, help=text or argparse.SUPPRESS)

    def _config_file(self) -> Path | None:
        """Return the file of --config, or that of the run folder that is resumed."""
        if file := self.value_of("config"):
            return Path(file)
        resumes = any(key == "resume" and value != "false" for key, value in self.typed)
        file = Path(self.value_of("out") or "", "config.yaml")
        return file if resumes and self.value_of("out") and file.is_file() else None

    def _spelled(self) -> list[str]:
        """Spell all values as jsonargparse takes them: `--flag=value`, lists as JSON."""
        positionals, flags = [text for key, text in self.typed if key == ""], []
        written = [pair for pair in self.written if pair[0] not in (*self.positionals, *REMOVED)]
        for key, value in [*written, *(pair for pair in self.typed if pair[0])]:
            key = f"{key}.name" if key in self.components else key
            if key not in self.options or key in self.positionals:
                raise ConfigError(self._unknown_flag(flag_of(key)))
            option_type = self.options[key].type
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            if option_type is bool and self.positionals and text not in ("true", "false", "null"):
                positionals.append(text)  # of a switch that stands before a positional argument
                value = None
            if option_type is bool and value is None:
                text = "true"
            elif value is None:
                raise ConfigError(f"{flag_of(key)} needs a value: {self.options[key].help}")
            elif _is_tuple(option_type) and isinstance(value, str):
                text = json.dumps(_items(value))
            flags.append(f"{flag_of(key)}={text}")
        for _, value in (pair for pair in self.written if pair[0] in self.positionals):
            if not any(key == "" for key, _ in self.typed):
                positionals += value if isinstance(value, list) else [str(value)]
        return [*positionals, *flags]

    def _unknown_flag(self, flag: str) -> str:
        """Say what to do about a flag that does not exist, or not without another one."""
        group, _, name = flag[2:].replace("_", "-").partition(".")
        flags = [flag_of(key).removesuffix(".name") for key in self.options]
        if name and self.components.get(group, CommandParser) is None:
            return f"{flag} needs --{group} NAME beside it"
        for selecting, package in self.selectable.items():
            if group in lookup.names(package) and not any(f"--{group}." in x for x in flags):
                return f"{flag} needs {group} among the names of --{selecting}"
        same = [x for x in flags if x.rpartition(".")[2] == flag[2:].replace("-", "_")]
        hint = _nearest(same[0] if same else flag, [*flags, "--help", "--quiet", "--verbose"])
        return f"{self.prog} has no {flag}{hint or '; --help lists what it has'}"


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Wide help, which keeps names such as `linear-probe` on one line."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=100)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)


def flag_of(key: str) -> str:
    """Return the flag of a key: `--data-root`, `--method.outer_steps`, `--linear-probe.labels`."""
    group, dot, name = key.partition(".")
    return "--" + group.replace("_", "-") + dot + name


def expected(option_type: Any) -> str:
    """Say which texts fit a type, such as `a whole number or all`."""
    arguments = typing.get_args(option_type)
    if _is_tuple(option_type):
        number = "" if Ellipsis in arguments else f"{len(arguments)} "
        return f"{number}{PLURALS[arguments[0]]}, separated by commas"
    text = type_text(option_type).removesuffix(" or None").replace("True or False", "true or false")
    return text.replace(" or ", ", ", text.count(" or ") - 1)


def _metavar(option: Option) -> str:
    if _is_tuple(option.type):
        return "A,B,.."
    parts = [METAVARS[x] for x in (option.type, *typing.get_args(option.type)) if x in METAVARS]
    return "|".join([*parts, *choices(option.type)]) or option.name.upper()


def _default(default: Any) -> str:
    if default in (None, "", False, ()):
        return ""
    values = default if isinstance(default, tuple) else (default,)
    texts = (f"{v:g}" if isinstance(v, float) else str(v) for v in values)
    return f"; default: {','.join(texts).replace('True', 'true')}"


def choices(option_type: Any) -> list[str]:
    """Return the texts among which a flag of this type chooses, if there are any."""
    literals = [
        x for x in (option_type, *typing.get_args(option_type)) if typing.get_origin(x) is Literal
    ]
    return [str(choice) for literal in literals for choice in typing.get_args(literal)]


def _is_tuple(option_type: Any) -> bool:
    return typing.get_origin(option_type) is tuple


def _items(text: str) -> list[str]:
    """Split `a,b`; `none` is the empty list."""
    return [] if text == "none" else [x.strip() for x in text.split(",") if x.strip()]


def _nearest(text: str, candidates: Iterable[str]) -> str:
    near = difflib.get_close_matches(text, list(candidates), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _pairs(arguments: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield the key and the text of each argument."""
    remaining = list(arguments)
    while remaining:
        word = remaining.pop(0)
        flag, equals, text = word.partition("=")
        key = flag[2:].replace("-", "_")
        if not word.startswith("--"):
            yield "", word
        elif equals:
            yield key, text
        else:
            yield key, remaining.pop(0) if remaining and not remaining[0].startswith("--") else None


def _written(file: Path | None) -> Iterator[tuple[str, Any]]:
    """Yield the key and the value of each entry of a config file."""
    if file is None:
        return
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"--config {file} cannot be read: {reason}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"--config {file} does not hold flags and their values")
    for key, value in values.items():
        nested = isinstance(value, dict) and key != "resolved"  # of a recipe: one value
        for name, entry in value.items() if nested else [("", value)]:
            if entry is not None:
                yield f"{key}.{name}".rstrip(".").replace("-", "_"), entry
