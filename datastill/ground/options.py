"""Options of a component: declared once, read by the API, the command line, files and docs.

A component (method, architecture, objective, task, ...) is a frozen dataclass whose fields are
made by `option(default, help)`. Nothing here imports torch, so that help texts stay fast.
"""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from datastill.ground.errors import ConfigError

T = TypeVar("T")

Json = dict[str, Any]


def option(default: T, help: str) -> T:  # noqa: A002 - the word of the command line
    """Declare a dataclass field with its default and the sentence that explains it."""
    declared: T = dataclasses.field(default=default, metadata={"help": help})
    return declared


@dataclasses.dataclass(frozen=True)
class Option:
    """What is known about one field of a component."""

    name: str
    type: Any
    default: Any
    help: str


def options(component: Any) -> list[Option]:
    """The options of a component (class or object), in the order of their declaration."""
    hints = typing.get_type_hints(component if isinstance(component, type) else type(component))
    return [
        Option(f.name, hints[f.name], f.default, str(f.metadata.get("help", "")))
        for f in dataclasses.fields(component)
    ]


def to_json(component: Any) -> Json:
    """The fields of a component as plain JSON values (tuples become lists)."""
    return {f.name: _plain(getattr(component, f.name)) for f in dataclasses.fields(component)}


def from_json(cls: type[T], values: Mapping[str, Any]) -> T:
    """Make a component from plain JSON values (lists become tuples).

    Raises:
        ConfigError: a name in `values` is no field of `cls`.
    """
    known = {o.name for o in options(cls)}
    if unknown := sorted(set(values) - known):
        raise ConfigError(
            f"{cls.__name__} has no option {', '.join(unknown)}; it has {', '.join(sorted(known))}"
        )
    return cls(**{k: _tuples(v) for k, v in values.items()})


def non_default(component: Any) -> Json:
    """Only those fields that differ from their defaults: what makes this one special."""
    return {
        o.name: _plain(getattr(component, o.name))
        for o in options(component)
        if getattr(component, o.name) != o.default
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_json(value)
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
