"""Options of a component: declared once, read by the API, the command line, files and docs.

A component (method, architecture, objective, task, ...) is a frozen dataclass whose fields are
made by `option(default, help)`. Nothing here imports torch, so that help texts stay fast.
"""

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, cast

from datastill.ground.errors import ConfigError

T = TypeVar("T")

Json = dict[str, Any]
LARGEST = 1e30  # of any number: float32 holds 3e38, and optimizers divide rates by 0.1 and less


def option(
    default: T,
    help: str,  # noqa: A002 - the word of the command line
    *,
    at_least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    smoke: object = None,
) -> T:
    """Declare a dataclass field with its default, the sentence that explains it, and its bounds.

    Bounds hold once `__post_init__` calls `check_bounds(self)`; of a tuple they hold for each item.
    `smoke` is the value that makes a run as short as can be; without it `shortened` leaves the
    field as it is.
    """
    bounds = {"at_least": at_least, "above": above, "below": below}
    given = {word: bound for word, bound in bounds.items() if bound is not None}
    facts = {"help": help, "bounds": given, "smoke": smoke}
    declared: T = dataclasses.field(default=default, metadata=facts)
    return declared


def check_bounds(component: Any) -> None:
    """Refuse numbers outside of the bounds of their options, NaN, what float32 cannot hold, words.

    Raises:
        ConfigError: the message names the option, its value and what was expected.
    """
    for o in options(component):
        value, known = getattr(component, o.name), choices(o.type)
        if known and isinstance(value, str) and value not in known:
            raise ConfigError(f"{o.name}={value!r}: expected {' or '.join(known)}")
    for f in dataclasses.fields(component):
        value, bounds = getattr(component, f.name), f.metadata.get("bounds", {})
        numbers = value if isinstance(value, tuple) else (value,)
        if not all(_within(n, bounds) for n in numbers if isinstance(n, int | float)):
            words = [f"{word.replace('_', ' ')} {bound:g}" for word, bound in bounds.items()]
            if not all(abs(n) <= LARGEST for n in numbers if isinstance(n, int | float)):
                words.append(f"a number of at most {LARGEST:g}")
            raise ConfigError(f"{f.name}={value}: expected {' and '.join(words)}")


def _within(number: float, bounds: Mapping[str, float]) -> bool:
    return (
        abs(number) <= LARGEST
        and number >= bounds.get("at_least", -math.inf)
        and number > bounds.get("above", -math.inf)
        and number < bounds.get("below", math.inf)
    )


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


def choices(kind: Any) -> list[str]:
    """The words among which an option of this type chooses; none where it is free."""
    literals = [p for p in (kind, *typing.get_args(kind)) if typing.get_origin(p) is Literal]
    return [str(choice) for literal in literals for choice in typing.get_args(literal)]


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


def shortened(component: T) -> T:
    """The same component with every length cut to its smoke value, down to nested components."""
    if isinstance(component, tuple):
        return cast(T, tuple(shortened(part) for part in component))
    if not dataclasses.is_dataclass(component) or isinstance(component, type):
        return component
    short = {
        f.name: shortened(getattr(component, f.name))
        if f.metadata.get("smoke") is None
        else f.metadata["smoke"]
        for f in dataclasses.fields(component)
    }
    return dataclasses.replace(component, **short)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_json(value)
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
