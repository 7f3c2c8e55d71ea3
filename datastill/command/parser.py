"""The jsonargparse parser of a verb: its own flags, then the options of the chosen components."""

from argparse import SUPPRESS, ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jsonargparse import ArgumentParser

from datastill.command.help import Formatter, about, explained, placeholder, usage, value
from datastill.command.values import as_json, choices, expected, is_list, nearest
from datastill.command.words import Said, flag_of
from datastill.flags import TASKS, VERBS, Component, is_word
from datastill.ground import lookup
from datastill.ground.errors import ConfigError
from datastill.ground.options import Json, Option, options

CONFIG = Option("config", str, "", "YAML file with flags, such as the config.yaml of a run")
CHOICES = (
    "components; 'datastill list methods krr-st' or --help beside such a flag shows the options"
)
Spoken = tuple[str, str | None]  # a key and its text, or None for a flag without a value


class VerbParser:
    """Begins with the verb's own flags, for which no component is imported."""

    def __init__(self, name: str) -> None:
        verb = VERBS[name]
        self.name, self.verb = name, verb
        self.known: dict[str, Option] = {}  # by dotted keys
        self.components: list[str] = []  # whose options are flags now
        self.words = [o.name for o in options(verb.flags) if is_word(verb.flags, o.name)]
        self._parser = _parser(usage=usage(name), description=about(name))
        own = {o.name: o for o in options(verb.flags)}
        self._add_words({key: own.pop(key) for key in self.words})
        self._add("flags", {**own, "config": CONFIG} if "resume" in own else own)
        self._add(CHOICES, {f"{c.flag}.name": _name(c) for c in verb.components})

    def add_component(self, key: str, component: type, title: str) -> None:
        """Make the options of a component flags, such as `--method.outer_steps`."""
        self.components.append(key)
        self._add(title, {f"{key}.{o.name}": o for o in options(component)})

    def help(self) -> str:
        """All flags that were added."""
        return self._parser.format_help().rstrip()

    def parse(self, said: Said) -> Json:
        """Values of all flags and options that were added; those of a component are a dict.

        Raises:
            ConfigError: a flag is unknown, or its text does not fit its type.
        """
        if unknown := [key for key in said.flags if key not in self.known or key in self.words]:
            raise ConfigError(self._about_unknown(unknown[0]))
        spoken = [*self._placed(said.loose), *said.flags.items()]
        argv = [self._argument(key, text) for key, text in spoken]
        try:
            found: Json = self._parser.parse_args(argv).as_dict()
        except ArgumentError as error:
            wrong = next(n for n in range(len(argv)) if not self._accepts(argv[: n + 1]))
            raise ConfigError(self._about_misfit(*spoken[wrong])) from error
        return found

    def _add_words(self, found: Mapping[str, Option]) -> None:
        group = self._parser.add_argument_group("words")
        for key, o in found.items():
            kind: Json = {"nargs": "?", "type": o.type}
            if is_list(o.type):
                kind = {"nargs": "*", "type": str}
            text: Json = {"metavar": placeholder(self.verb, key), "help": explained(key, o)}
            group.add_argument(key, default=o.default, **kind, **text)
        self.known |= found

    def _add(self, title: str, found: Mapping[str, Option]) -> None:
        _add_flags(self._parser, title, found)
        self.known |= found

    def _placed(self, loose: Sequence[str]) -> Iterator[Spoken]:
        """Words without a flag belong to fields declared so, in order; a list takes the rest."""
        for number, text in enumerate(loose):
            key = self.words[min(number, len(self.words) - 1)] if self.words else ""
            if not key or (number >= len(self.words) and not is_list(self.known[key].type)):
                raise ConfigError(f"{text!r} was not expected here; flags begin with two dashes")
            yield key, text

    def _argument(self, key: str, text: str | None) -> str:
        kind = self.known[key].type
        if text is None:
            return f"{flag_of(key)}=true" if kind is bool else flag_of(key)
        return text if key in self.words else f"{flag_of(key)}={as_json(text, kind)}"

    def _accepts(self, argv: Sequence[str]) -> bool:
        try:
            self._parser.parse_args(argv)
        except ArgumentError:
            return False
        return True

    def _about_misfit(self, key: str, text: str | None) -> str:
        """What would fit instead."""
        name = key if key in self.words else flag_of(key).removesuffix(".name")
        if text is None:
            return f"{name} needs a value: {self.known[key].help}"
        kind = self.known[key].type
        return f"{name} {text}: expected {expected(kind)}{nearest(text, choices(kind))}"

    def _about_unknown(self, key: str) -> str:
        """What to do about a flag that does not exist, or not without another one."""
        flag, group = flag_of(key), key.partition(".")[0]
        task = group.replace("_", "-")
        if group not in self.components:
            if group in {component.flag for component in self.verb.components}:
                return f"{flag} needs --{group} NAME beside it"
            if self.verb.tasks and task in lookup.names(TASKS):
                return f"{flag} needs {task} among the names of --task"
        known = [flag_of(key).removesuffix(".name") for key in self.known if key not in self.words]
        hint = nearest(flag, [*known, "--help"])
        return f"datastill {self.name} has no {flag}{hint or '; --help lists what it has'}"


def component_help(key: str, component: type) -> str:
    """The options of a component as flags, such as `--method.outer_steps`."""
    parser = _parser(usage=SUPPRESS)
    _add_flags(parser, None, {f"{key}.{o.name}": o for o in options(component)})
    return parser.format_help().rstrip()


def _name(component: Component) -> Option:
    names = ", ".join(lookup.names(component.folder))
    return Option("name", str, component.default, names)


def _parser(**texts: Any) -> ArgumentParser:
    plain: Json = {"add_help": False, "allow_abbrev": False, "exit_on_error": False}
    return ArgumentParser(formatter_class=Formatter, **plain, **texts)


def _add_flags(parser: ArgumentParser, title: str | None, found: Mapping[str, Option]) -> None:
    group = parser.add_argument_group(title)
    for key, o in found.items():
        text: Json = {"metavar": value(key, o), "help": explained(key, o)}
        group.add_argument(flag_of(key), type=o.type, default=o.default, **text)
