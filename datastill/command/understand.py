"""A command line, understood: the flags of a verb and the options of the components it names.

Nothing here imports a component: its options are read from its text, so that help and the
refusal of wrong names are quick.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from datastill.command.values import items, nearest, value_of
from datastill.command.words import BARE, Said, flag_of, said
from datastill.flags import NAMED_IN, VERBS, Flags, Verb
from datastill.ground import lookup
from datastill.ground.errors import ConfigError
from datastill.ground.options import Json, Option, check_bounds, options
from datastill.ground.outline import outline

TASKS = "datastill.transfer"
VIEWS = "datastill.augment.views"
NOT_IN_CONFIG = ("out", "resume", "checkpoint_seconds")  # where a run stands is not what it is


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


@dataclass(frozen=True)
class Group:
    """The flags of one component that was chosen, such as all of `--method.OPTION`."""

    key: str  # such as method or linear_probe
    module: str  # such as datastill.methods.krr_st
    name: str = ""  # such as krr-st; empty where the key says it all

    def options(self) -> list[Option]:
        """The options of the component, from the text of its module."""
        return outline(self.module)

    def values(self, given: Json) -> Json:
        """All options with what was given for them, under dotted keys, or their defaults."""
        named = {"name": self.name} if self.name else {}
        found = {o.name: given.get(f"{self.key}.{o.name}", o.default) for o in self.options()}
        return {**named, **found}


def understand(verb: str, words: Sequence[str]) -> Command:
    """Flags and component options from the words after a verb, and from the config file in them.

    Raises:
        ConfigError: a name or a value makes no sense, or something is missing.
    """
    found = VERBS[verb]
    texts = said(found, words)
    groups = chosen_groups(found, texts)
    known = _known(found, groups)
    if unknown := [key for key in texts if key not in known]:
        raise ConfigError(_about_unknown(verb, unknown[0], known))
    given: Json = {key: _value(key, text, known[key]) for key, text in texts.items()}
    flags = found.flags(**{o.name: given[o.name] for o in options(found.flags) if o.name in given})
    _check_given(found, flags)
    _check_names(flags)
    check_bounds(flags)
    return Command(flags, {group.key: group.values(given) for group in groups})


def chosen_groups(verb: Verb, texts: Said) -> list[Group]:
    """The components whose options are flags now.

    Raises:
        ConfigError: there is no such component or task; the message has the nearest name.
    """
    groups = []
    for component in verb.components:
        name = texts.get(f"{component.flag}.name", component.default)
        if name:
            groups.append(Group(component.flag, _module(component.folder, name), name))
    if verb.views:
        groups.append(Group("views", VIEWS))
    if verb.tasks:
        names = dict.fromkeys(items(texts.get("task", "linear-probe")))
        groups += [Group(name.replace("-", "_"), _module(TASKS, name)) for name in names]
    return groups


def _module(folder: str, name: str) -> str:
    lookup.check_name(name, lookup.names(folder), kind=folder.rpartition(".")[2])
    return f"{folder}.{name.replace('-', '_')}"


def _known(verb: Verb, groups: Sequence[Group]) -> dict[str, Option]:
    known = {o.name: o for o in options(verb.flags)}
    for component in verb.components:
        key = f"{component.flag}.name"
        known[key] = Option(key, str, component.default, "")
    for group in groups:
        known |= {f"{group.key}.{o.name}": o for o in group.options()}
    return known


def _value(key: str, text: str, option: Option) -> object:
    flag = flag_of(key)
    if text == BARE and option.type is bool:
        return True
    if text == BARE:
        raise ConfigError(f"{flag} needs a value: {option.help or 'a name'}")
    return value_of(text, option.type, flag=flag)


def _about_unknown(verb: str, key: str, known: Mapping[str, Option]) -> str:
    """What to do about a flag that does not exist, or not without another one."""
    flag, group = flag_of(key), key.partition(".")[0]
    components = {component.flag for component in VERBS[verb].components}
    if group in components and not any(
        k.startswith(f"{group}.") for k in set(known) - {f"{group}.name"}
    ):
        return f"{flag} needs --{group} NAME beside it"
    task = group.replace("_", "-")
    if VERBS[verb].tasks and "." in key and task in lookup.names(TASKS):
        return f"{flag} needs {task} among the names of --task"
    hint = nearest(flag, [*map(flag_of, known), "--config", "--help"])
    return f"datastill {verb} has no {flag}{hint or '; --help lists what it has'}"


def _check_names(flags: Flags) -> None:
    """Refuse unknown names before anything is imported."""
    for flag, folder in NAMED_IN.items():
        value = getattr(flags, flag, None) or ()
        for name in (value,) if isinstance(value, str) else value:
            public = name.partition(":")[0]
            lookup.check_name(public, lookup.names(folder), kind=folder.rpartition(".")[2])


def _check_given(verb: Verb, flags: Flags) -> None:
    for field in dataclasses.fields(flags):
        if field.metadata.get("optional", True) or getattr(flags, field.name):
            continue
        if field.metadata.get("word"):
            raise ConfigError(f"{field.name} is missing; for example: {verb.example}")
        flag = flag_of(field.name)
        raise ConfigError(f"{flag} is missing; for example {flag} {field.metadata['example']}")
