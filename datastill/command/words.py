"""What the words of a command line and a config file say: dotted keys and their texts.

`--data-root X --method krr-st --method.flip false` says data_root, method.name and method.flip.
A config file is nothing but words that were written down earlier.
"""

import dataclasses
import json
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from datastill.flags import Verb
from datastill.ground.errors import ConfigError
from datastill.ground.options import options

Said = dict[str, str]  # "seed" or "method.outer_steps" -> the text that was given
BARE = "\0"  # the text of a flag without a value


def said(verb: Verb, words: Sequence[str]) -> Said:
    """What the config file says and then the words, which win.

    `--resume --out DIR` is enough: the config file is then that of the run in the folder. Where
    the words choose another component, what the file says of the old one's options is void.

    Raises:
        ConfigError: a word cannot be placed, or the file cannot be read.
    """
    spoken = dict(_spoken(verb, words))
    written = _written(verb, spoken.pop("config", None) or _to_resume(spoken))
    for component in verb.components:
        prefix = f"{component.flag}."
        before = written.get(f"{prefix}name", component.default)
        if spoken.get(f"{prefix}name", before) != before:
            written = {k: v for k, v in written.items() if not k.startswith(prefix)}
    return {**written, **spoken}


def flag_of(key: str) -> str:
    """The flag that says a key: `--data-root`, `--method.outer_steps`, `--linear-probe.labels`."""
    group, dot, name = key.removesuffix(".name").partition(".")
    return "--" + group.replace("_", "-") + dot + name


def _spoken(verb: Verb, words: Sequence[str]) -> Iterator[tuple[str, str]]:
    switches = {o.name for o in options(verb.flags) if o.type is bool}
    left, loose = list(words), []
    while left:
        word = left.pop(0)
        if not word.startswith("-"):
            loose.append(word)
            continue
        flag, equals, text = word.partition("=")
        key = _key(flag.lstrip("-"), verb)
        follows = bool(left) and not left[0].startswith("--")
        if equals:
            yield key, text
        elif follows and (key not in switches or left[0] in ("true", "false")):
            yield key, left.pop(0)
        else:
            yield key, BARE
    yield from _loose(verb, loose)


def _loose(verb: Verb, words: list[str]) -> Iterator[tuple[str, str]]:
    """Words without a flag belong to the fields that are declared so, in their order."""
    left = list(words)
    for field in dataclasses.fields(verb.flags):
        if not left or not field.metadata.get("word"):
            continue
        if typing.get_origin(field.type) is tuple:
            yield field.name, json.dumps(left)
            left = []
        else:
            yield field.name, left.pop(0)
    if left:
        raise ConfigError(f"{left[0]!r} was not expected here; flags begin with two dashes")


def _to_resume(spoken: Said) -> str | None:
    """The config file of the run that is to be continued."""
    if spoken.get("resume") not in (BARE, "true") or "out" not in spoken:
        return None
    file = Path(spoken["out"]) / "config.yaml"
    return str(file) if file.is_file() else None


def _written(verb: Verb, path: str | None) -> Said:
    if path is None:
        return {}
    if path == BARE:
        raise ConfigError("--config needs a value: a YAML file, such as the config.yaml of a run")
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        raise ConfigError(f"--config {path} cannot be read: {said}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"--config {path} does not hold flags and their values, as config.yaml")
    return {k: _text(v) for k, v in _flat(verb, values) if v is not None}


def _flat(verb: Verb, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and name != "resolved":
            yield from ((f"{_plain(name)}.{_plain(inner)}", v) for inner, v in value.items())
        else:
            yield _key(name, verb), value


def _key(flag: object, verb: Verb) -> str:
    """`--method` is short for `--method.name`; dashes and underscores are the same."""
    key = _plain(flag)
    return f"{key}.name" if key in {c.flag for c in verb.components} else key


def _plain(name: object) -> str:
    return str(name).replace("-", "_")


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
