"""Texts of flags become values of their types."""

from typing import Any, Literal

import pytest

from datastill.command.values import expected, value_of
from datastill.ground.errors import ConfigError

GOOD = [
    ("3", int, 3),
    ("-3", int, -3),
    ("1e-3", float, 1e-3),
    ("3", float, 3.0),
    ("true", bool, True),
    ("false", bool, False),
    ("3", str, "3"),
    ("a: [b", str, "a: [b"),
    ("null", str | None, None),
    ("8", str | None, "8"),
    ("null", int | None, None),
    ("all", int | Literal["all"], "all"),
    ("7", int | Literal["all"], 7),
    ("sgd", Literal["sgd", "lars"], "sgd"),
    ("4,8", tuple[int, ...], (4, 8)),
    ("[4, 8]", tuple[int, ...], (4, 8)),
    ("4", tuple[int, ...], (4,)),
    ("none", tuple[int, ...], ()),
    ("[]", tuple[int, ...], ()),
    ("0,.5", tuple[float, float], (0.0, 0.5)),
    ("1%,10%,all", tuple[str, ...], ("1%", "10%", "all")),
    ("[1%,10%,all]", tuple[str, ...], ("1%", "10%", "all")),
    ("a, ,b,", tuple[str, ...], ("a", "b")),
    ('["folder:a,b", "c"]', tuple[str, ...], ("folder:a,b", "c")),
    ("1,2", tuple[str, ...], ("1", "2")),
]
BAD = [
    ("1.5", int, "a whole number"),
    ("1e3", int, "a whole number"),
    ("nan", float, "a number"),
    ("perhaps", bool, "true or false"),
    ("some", int | Literal["all"], "a whole number or all"),
    ("adam", Literal["adamw", "sgd", "lars"], "adamw, sgd or lars; did you mean adamw?"),
    ("4,x", tuple[int, ...], "whole numbers, separated by commas"),
    ("1,2,3", tuple[float, float], "2 numbers, separated by commas"),
]


@pytest.mark.parametrize(("text", "kind", "value"), GOOD)
def test_value_of__text(text: str, kind: Any, value: Any) -> None:
    found = value_of(text, kind, flag="--flag")
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(("text", "kind", "message"), BAD)
def test_value_of__says_what_was_expected(text: str, kind: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        value_of(text, kind, flag="--flag")
    assert str(caught.value) == f"--flag {text}: expected {message}"


def test_expected__words() -> None:
    assert expected(tuple[str, ...]) == "words, separated by commas"
