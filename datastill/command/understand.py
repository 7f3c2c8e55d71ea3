"""A command line, understood: the flags of a verb and the options of the components it names.

Flags and names are checked first, then the chosen components are imported for their options.
"""

import dataclasses
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datastill.command.parser import VerbParser
from datastill.command.words import Said, flag_of, said
from datastill.flags import NAMED_IN, TASKS, VERBS, Flags, Verb
from datastill.ground import lookup
from datastill.ground.errors import ConfigError
from datastill.ground.options import Json, check_bounds, options

VIEWS = "datastill.augment.views"
NOTHING = "[]"  # an empty list, as config.yaml writes it
# where a run stands and how it is watched is not what it is
NOT_IN_CONFIG = ("out", "resume", "checkpoint_seconds", "profile")


@dataclass(frozen=True)
class Command:
    """What a verb needs to do its work."""

    flags: Flags
    groups: Json  # component options: {"method": {"name": "krr-st", "outer_steps": 5, ...}, ...}

    @property
    def config(self) -> Json:
        """The whole resolved configuration, as config.yaml keeps it and --config takes it."""
        own = {k: v for k, v in vars(self.flags).items() if k not in NOT_IN_CONFIG}
        return {**own, **self.groups}

    def settled(self, **found: object) -> "Command":
        """The same with some flags as they were found out to be."""
        flags: Any = self.flags
        return dataclasses.replace(self, flags=dataclasses.replace(flags, **found))


def understand(name: str, words: Sequence[str]) -> Command:
    """Flags and component options from the words after a verb, and from the config file in them.

    Raises:
        ConfigError: a name or a value makes no sense, or something is missing.
    """
    verb = VERBS[name]
    texts, parser = said(verb, words), VerbParser(name)
    own = parser.parse(_without_options(texts))
    _leave_out_what_is_fixed(verb, texts, own)
    flags = verb.flags(**{o.name: _tuple(own[o.name]) for o in options(verb.flags)})
    _check_given(verb, flags)
    _check_names(flags)
    check_bounds(flags)
    _add_components(parser, own)
    found = parser.parse(with_first_options(parser, texts))
    return Command(flags, {key: found.get(key, {}) for key in parser.components})


def verb_help(name: str, words: Sequence[str]) -> str:
    """All flags of a verb; with those of the components, where the words name one."""
    texts, parser = said(VERBS[name], words), VerbParser(name)
    if any(key.endswith(".name") or key == "task" for key in texts.flags):
        _add_components(parser, parser.parse(_without_options(texts)))
    return parser.help()


def with_first_options(parser: VerbParser, texts: Said) -> Said:
    """`--network timm:resnet18` says `--network timm` and its first option, `resnet18`.

    Raises:
        ConfigError: the component has no options, or the first one is given beside it too.
    """
    flags = dict(texts.flags)
    for key in parser.components:
        name, colon, value = (flags.get(f"{key}.name") or "").partition(":")
        if not colon:
            continue
        own = [k for k in parser.known if k.startswith(f"{key}.") and k != f"{key}.name"]
        if not own:
            raise ConfigError(f"{flag_of(key)} {name} takes nothing after a colon")
        if own[0] in flags:
            raise ConfigError(f"{flag_of(own[0])} was given twice, once as {name}:{value}")
        flags |= {f"{key}.name": name, own[0]: value}
    return Said(flags, texts.loose)


def _add_components(parser: VerbParser, own: Json) -> None:
    """Import the components that were chosen, once all their names are known to be right."""
    verb = parser.verb
    said_of = {c: own[c.flag]["name"] for c in verb.components}
    chosen = [(c.flag, c.folder, text.partition(":")[0]) for c, text in said_of.items() if text]
    if verb.tasks:
        chosen += [(name.replace("-", "_"), TASKS, name) for name in dict.fromkeys(own["task"])]
    for _, folder, name in chosen:
        _check_name(name, folder)
    for key, folder, name in chosen:
        title = f"{flag_of(key)[2:]} {name}" if f"{key}.name" in parser.known else name
        parser.add_component(key, lookup.find(folder, name), title)
    if verb.views:
        parser.add_component("views", importlib.import_module(VIEWS).TwoViews, "views")


def _leave_out_what_is_fixed(verb: Verb, texts: Said, own: Json) -> None:
    """Refuse words that say what another flag has fixed, and drop the defaults of their flags."""
    for flag, fixed in verb.fixed.items():
        if not own[flag]:
            continue
        for key, text in texts.flags.items():
            group = key.partition(".")[0]
            of_a_task = group.replace("_", "-") in lookup.names(TASKS)
            if ("task" if of_a_task else group) in fixed and text != NOTHING:
                raise ConfigError(
                    f"{flag_of(key).removesuffix('.name')} contradicts --{flag} {own[flag]}, which"
                    " fixes it; leave one of the two out"
                )
        own.update({key: () for key in fixed if isinstance(own.get(key), list | tuple)})


def _without_options(texts: Said) -> Said:
    own = {k: v for k, v in texts.flags.items() if "." not in k or k.endswith(".name")}
    return Said(own, texts.loose)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _check_names(flags: Flags) -> None:
    for flag, folder in NAMED_IN.items():
        value = getattr(flags, flag, None) or ()
        for name in (value,) if isinstance(value, str) else value:
            _check_name(name.partition(":")[0], folder)


def _check_name(name: str, folder: str) -> None:
    lookup.check_name(name, lookup.names(folder), kind=folder.rpartition(".")[2])


def _check_given(verb: Verb, flags: Flags) -> None:
    for field in dataclasses.fields(flags):
        if field.metadata.get("optional", True) or getattr(flags, field.name):
            continue
        if field.metadata.get("word"):
            raise ConfigError(f"{field.name} is missing; for example: {verb.example}")
        flag = flag_of(field.name)
        raise ConfigError(f"{flag} is missing; for example {flag} {field.metadata['example']}")
