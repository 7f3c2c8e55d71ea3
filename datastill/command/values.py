"""From the text of a flag to a value of its type, by jsonargparse; lists may be given by commas."""

import argparse
import difflib
import json
import typing
from collections.abc import Iterable
from typing import Any, Literal

import jsonargparse

from datastill.ground.errors import ConfigError

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
PLURAL = {"a whole number": "whole numbers", "a number": "numbers", "a word": "words"}


def value_of(text: str, kind: Any, *, flag: str) -> Any:
    """The value that a text stands for.

    Raises:
        ConfigError: the text does not fit the type; the message says what would.
    """
    parser = jsonargparse.ArgumentParser(exit_on_error=False, add_help=False)
    parser.add_argument("--value", type=kind)
    try:
        return parser.parse_args([f"--value={_prepared(text, kind)}"]).value
    except argparse.ArgumentError as error:
        hint = nearest(text, choices(kind))
        raise ConfigError(f"{flag} {text}: expected {expected(kind)}{hint}") from error


def items(text: str) -> list[str]:
    """The items of `a,b`, which may also be written `[a, b]`; `none` and nothing are no items."""
    if text.startswith('["'):  # quoted items may have commas in them
        return [str(item) for item in json.loads(text)]
    inside = text.strip().removeprefix("[").removesuffix("]").strip()
    pieces = [] if inside == "none" else inside.split(",")
    return [piece.strip() for piece in pieces if piece.strip()]


def choices(kind: Any) -> list[str]:
    """The words among which an option of this type chooses; none where it is free."""
    literals = [part for part in _parts(kind) if typing.get_origin(part) is Literal]
    return [str(choice) for literal in literals for choice in typing.get_args(literal)]


def expected(kind: Any) -> str:
    """What a text must be to fit a type, in words."""
    if typing.get_origin(kind) is tuple:
        item, *more = typing.get_args(kind)
        number = "" if Ellipsis in more else f"{1 + len(more)} "
        return f"{number}{PLURAL[KINDS[item]]}, separated by commas"
    words = [*(KINDS[part] for part in _parts(kind) if part in KINDS), *choices(kind)]
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def nearest(text: str, known: Iterable[str]) -> str:
    """A hint at the known word that is most like a text, or nothing."""
    near = difflib.get_close_matches(text, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _prepared(text: str, kind: Any) -> str:
    if typing.get_origin(kind) is not tuple:
        return text
    if typing.get_args(kind)[0] is str:
        return json.dumps(items(text))
    return f"[{', '.join(items(text))}]"


def _parts(kind: Any) -> tuple[Any, ...]:
    """The types of a union; of another type, itself."""
    return (kind,) if typing.get_origin(kind) is Literal else (kind, *typing.get_args(kind))
