"""Types of options in words, for messages and help; lists that are given by commas."""

import difflib
import json
import typing
from collections.abc import Iterable
from typing import Any, Literal

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
PLURAL = {"a whole number": "whole numbers", "a number": "numbers", "a word": "words"}


def is_list(kind: Any) -> bool:
    """Whether values of this type are given as `a,b`."""
    return typing.get_origin(kind) is tuple


def as_json(text: str, kind: Any) -> str:
    """The text as jsonargparse reads it: `a,b` becomes `["a", "b"]`, and `1,2` [1, 2]."""
    if not is_list(kind):
        return text
    found = items(text)
    return json.dumps(found) if str in typing.get_args(kind) else f"[{', '.join(found)}]"


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
    if is_list(kind):
        item, *more = typing.get_args(kind)
        number = "" if Ellipsis in more else f"{1 + len(more)} "
        return f"{number}{PLURAL[KINDS[item]]}, separated by commas"
    words = [*(KINDS[part] for part in _parts(kind) if part in KINDS), *choices(kind)]
    words = words or ["a mapping"]
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def nearest(text: str, known: Iterable[str]) -> str:
    """A hint at the known word that is most like a text, or nothing."""
    near = difflib.get_close_matches(text, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _parts(kind: Any) -> tuple[Any, ...]:
    """The types of a union; of another type, itself."""
    return (kind,) if typing.get_origin(kind) is Literal else (kind, *typing.get_args(kind))
