"""The words of a command line in the one spelling that the parser knows.

`--data_root X --method krr-st` says `data_root: X, method.name: krr-st`. A config file is nothing
but words that were written down earlier.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from datastill.flags import Verb
from datastill.ground.errors import ConfigError
from datastill.ground.options import options


@dataclasses.dataclass(frozen=True)
class Said:
    """Flags, as dotted keys with their texts (None: a flag without a value), and other words."""

    flags: dict[str, str | None]
    loose: list[str]


def said(verb: Verb, words: Sequence[str]) -> Said:
    """What the config file says and then the words, which win.

    `--resume --out DIR` is enough: the config file is then that of the run in the folder. Where
    the words choose another component, what the file says of the old one's options is void.

    Raises:
        ConfigError: the file cannot be read.
    """
    spoken = _placed(verb, words)
    written = _placed(verb, list(_written(verb, _config_file(spoken))))
    now, then = spoken.flags, written.flags
    for component in verb.components:
        name = f"{component.flag}.name"
        before = then.get(name, component.default)
        if now.get(name, before) != before:
            then = {k: v for k, v in then.items() if not k.startswith(f"{component.flag}.")}
    flags = {k: v for k, v in {**then, **now}.items() if k != "config"}
    return Said(flags, spoken.loose or written.loose)


def flag_of(key: str) -> str:
    """The flag that says a key: `--data-root`, `--method.outer_steps`, `--linear-probe.labels`."""
    group, dot, name = key.partition(".")
    return "--" + group.replace("_", "-") + dot + name


def _placed(verb: Verb, words: Sequence[str]) -> Said:
    switches = {o.name for o in options(verb.flags) if o.type is bool}
    left, found = list(words), Said({}, [])
    while left:
        flag, equals, value = left.pop(0).partition("=")
        if not flag.startswith("-"):
            found.loose.append(flag + equals + value)
            continue
        key, text = _key(verb, flag.lstrip("-")), value if equals else None
        if not equals and left and not left[0].startswith("--"):
            text = left.pop(0) if key not in switches or left[0] in ("true", "false") else None
        found.flags[key] = text
    return found


def _key(verb: Verb, flag: str) -> str:
    """`--method` is short for `--method.name`; dashes and underscores are the same."""
    key = flag.replace("-", "_")
    return f"{key}.name" if key in {c.flag for c in verb.components} else key


def _config_file(spoken: Said) -> Path | None:
    """The config file that was asked for, or that of the run that is to be continued."""
    flags = spoken.flags
    if "config" in flags:
        if flags["config"] is None:
            raise ConfigError("--config needs a value: a YAML file, such as a run's config.yaml")
        return Path(flags["config"])
    file = Path(flags.get("out") or "") / "config.yaml"
    resumes = "resume" in flags and flags["resume"] in (None, "true")
    return file if resumes and flags.get("out") and file.is_file() else None


def _written(verb: Verb, file: Path | None) -> Iterator[str]:
    """A config file as words."""
    if file is None:
        return
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"--config {file} cannot be read: {reason}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"--config {file} does not hold flags and their values, as config.yaml")
    loose = {f.name for f in dataclasses.fields(verb.flags) if f.metadata.get("word")}
    for name, value in values.items():
        if name in loose:
            yield from value if isinstance(value, list) else [str(value)]
        elif isinstance(value, dict) and name != "resolved":
            yield from (f"--{name}.{k}={_text(v)}" for k, v in value.items() if v is not None)
        elif value is not None:
            yield f"--{name}={_text(value)}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
