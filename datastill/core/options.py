"""Options of a component: declared once, read by the API, the command line, files and docs.

A component (method, architecture, objective, task, ...) is a frozen dataclass whose fields are
made by `option(default, help)` and checked by `check_bounds(self)` in `__post_init__`. Nothing here
imports torch, so that help texts stay fast.
"""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, cast

from datastill.core.errors import ConfigError

T = TypeVar("T")

Json = dict[str, Any]
LARGEST = 1e30  # of any number: float32 holds 3e38, and optimizers divide rates by 0.1 and less


def option(  # noqa: PLR0913 - each is a word of a declaration
    default: T,
    help: str,  # noqa: A002 - the word of the command line
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    smoke: object = None,
    omit_default: bool = False,
) -> T:
    """Declare a dataclass field with its default, its explanation and its bounds.

    Args:
        default: Value where none is given.
        help: What the option does, for `--help` and the documentation.
        at_least: Smallest value; of a tuple, of each item.
        at_most: Largest value; of a tuple, of each item.
        above: Every value must be larger.
        below: Every value must be smaller.
        smoke: Value for smoke tests, which makes a run as short as can be. Default: no change.
        omit_default: Leave the default out of JSON: of an option that came later, so that what was
            made before still has equal settings.

    Returns:
        The field; its type is that of the default, so that type checkers see a plain attribute.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Blur:
        ...     sigma: float = option(1.0, "width of the Gaussian, in pixels", above=0)
        ...     def __post_init__(self) -> None:
        ...         check_bounds(self)
        >>> Blur(2).sigma
        2
        >>> Blur(True)
        Traceback (most recent call last):
        datastill.core.errors.ConfigError: Blur: sigma=True: expected a number
    """
    bounds = {"at_least": at_least, "at_most": at_most, "above": above, "below": below}
    bounds = {name: bound for name, bound in bounds.items() if bound is not None}
    metadata = {"help": help, "bounds": bounds, "smoke": smoke, "omit_default": omit_default}
    declared: T = dataclasses.field(default=default, metadata=metadata)
    return declared


def check_bounds(component: Any) -> None:
    """Check types and bounds of all fields; call it in `__post_init__`.

    Types are strict: True is no number, text is never converted, a whole number may stand where a
    number is expected. Numbers must be finite and at most 1e30 in size.

    Args:
        component: A dataclass object whose fields may be made by `option`.

    Raises:
        ConfigError: The message names the class, the option, its value and what was expected.
    """
    types_of_fields = typing.get_type_hints(type(component))
    for field in dataclasses.fields(component):
        value, expected = getattr(component, field.name), types_of_fields[field.name]
        if not _has_type(value, expected):
            problem = type_text(expected)
        elif not _within(value, bounds := field.metadata.get("bounds", {})):
            limits = [f"{name.replace('_', ' ')} {bound:g}" for name, bound in bounds.items()]
            if not _within(value, {}):
                limits.append(f"a number of at most {LARGEST:g}")
            problem = " and ".join(limits)
        else:
            continue
        name = type(component).__name__
        raise ConfigError(f"{name}: {field.name}={value!r}: expected {problem}")


def _has_type(value: Any, expected: Any) -> bool:
    origin, args = typing.get_origin(expected), typing.get_args(expected)
    if expected is Any:
        return True
    if origin is Literal:
        return value in args
    if origin in (Union, types.UnionType):
        return any(_has_type(value, arg) for arg in args)
    if origin is tuple and isinstance(value, tuple):
        items = args[:1] * len(value) if Ellipsis in args else args
        return len(value) == len(items) and all(map(_has_type, value, items))
    if expected is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if expected is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin or expected)


def type_text(expected: Any) -> str:
    """Describe a type: `tuple[int, float]` is "a tuple of a whole number and a number"."""
    origin, args = typing.get_origin(expected), typing.get_args(expected)
    if origin is Literal:
        return " or ".join(map(str, args))
    if origin in (Union, types.UnionType):
        return " or ".join(map(type_text, args))
    if origin is tuple:
        if Ellipsis in args:
            return f"a tuple, each item {type_text(args[0])}"
        return f"a tuple of {' and '.join(map(type_text, args))}"
    names = {int: "a whole number", float: "a number", bool: "True or False", str: "text"}
    return {**names, type(None): "None"}.get(expected) or f"a {(origin or expected).__name__}"


def _within(value: Any, bounds: Mapping[str, float]) -> bool:
    """Return whether a number, or each number of a tuple, is within bounds."""
    if isinstance(value, tuple):
        return all(_within(item, bounds) for item in value)
    return not isinstance(value, int | float) or (
        abs(value) <= LARGEST
        and value >= bounds.get("at_least", -math.inf)
        and value <= bounds.get("at_most", math.inf)
        and value > bounds.get("above", -math.inf)
        and value < bounds.get("below", math.inf)
    )


@dataclasses.dataclass(frozen=True)
class Option:
    """Name, type, default and explanation of one field of a component."""

    name: str
    type: Any
    default: Any
    help: str


def options(component: Any) -> list[Option]:
    """Return the options of a component (class or object), in the order of their declaration."""
    hints = typing.get_type_hints(component if isinstance(component, type) else type(component))
    return [
        Option(f.name, hints[f.name], f.default, str(f.metadata.get("help", "")))
        for f in dataclasses.fields(component)
    ]


def plain(value: Any) -> Any:
    """Return a value as it comes back from a JSON file: tuples become lists, and paths text."""
    return json.loads(json.dumps(value, default=str))


def to_json(component: Any) -> Json:
    """Return the fields of a component, and of components in it, as plain JSON values."""
    values: Json = dict(plain(dataclasses.asdict(component)))
    for field in dataclasses.fields(component):
        if field.metadata.get("omit_default") and values[field.name] == field.default:
            del values[field.name]
    return values


def from_json(cls: type[T], values: Mapping[str, Any]) -> T:
    """Make a component from plain JSON values (lists become tuples).

    Raises:
        ConfigError: A name in `values` is no field of `cls`, or a value is wrong.
    """
    names = {o.name for o in options(cls)}
    if unknown := sorted(set(values) - names):
        raise ConfigError(
            f"{cls.__name__} has no option {', '.join(unknown)}; it has {', '.join(sorted(names))}"
        )
    return cls(**{k: _tuples(v) for k, v in values.items()})


def non_default(component: Any) -> Json:
    """Return the fields that differ from their defaults, as plain JSON values."""
    values = to_json(component)
    changed = [o.name for o in options(component) if getattr(component, o.name) != o.default]
    return {name: values[name] for name in changed}


def with_smoke_values(component: T) -> T:
    """Replace every option that has a smoke value by it, in nested components too."""
    if isinstance(component, tuple):
        return cast(T, tuple(with_smoke_values(part) for part in component))
    if not dataclasses.is_dataclass(component) or isinstance(component, type):
        return component
    short = {
        f.name: with_smoke_values(getattr(component, f.name))
        if f.metadata.get("smoke") is None
        else f.metadata["smoke"]
        for f in dataclasses.fields(component)
    }
    return dataclasses.replace(component, **short)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
