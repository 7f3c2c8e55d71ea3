"""Texts of flags become values of their types; what does not fit is refused in words."""

from dataclasses import make_dataclass
from typing import Any, Literal

import pytest

from datastill.command.parser import VerbParser, component_help
from datastill.command.values import expected
from datastill.command.words import Said
from datastill.ground.errors import ConfigError
from datastill.ground.lookup import find
from datastill.ground.options import option

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


def parsed(text: str | None, kind: Any) -> Any:
    """What an option of this type becomes."""
    parser = VerbParser("distill")
    made = make_dataclass("Made", [("field", kind, option(None, "a field of this kind"))])
    parser.add_component("method", made, "")
    return parser.parse(Said({"method.field": text}, []))["method"]["field"]


@pytest.mark.parametrize(("text", "kind", "value"), GOOD)
def test_parser__text(text: str, kind: Any, value: Any) -> None:
    found = parsed(text, kind)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(("text", "kind", "message"), BAD)
def test_parser__says_what_was_expected(text: str, kind: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(text, kind)
    assert str(caught.value) == f"--method.field {text}: expected {message}"


def test_parser__only_a_switch_needs_no_value() -> None:
    assert parsed(None, bool) is True
    with pytest.raises(ConfigError, match=r"--method.field needs a value: a field of this kind"):
        parsed(None, int)


@pytest.mark.parametrize(
    ("verb", "words", "message"),
    [
        ("run", ["a", "b"], "'b' was not expected here"),
        ("target", ["fast"], "'fast' was not expected here"),
        (
            "data",
            ["checked", "x"],
            "action checked: expected prepare or check; did you mean check?",
        ),
    ],
)
def test_parser__refuses_words(verb: str, words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        VerbParser(verb).parse(Said({}, words))
    assert message in str(caught.value)


def test_expected__words() -> None:
    assert expected(tuple[str, ...]) == "words, separated by commas"


def test_component_help__begins_with_the_first_option() -> None:
    text = component_help("method", find("datastill.methods", "krr-st"))
    assert text.startswith("  --method.outer_steps N ")
