"""Options: declared once, read everywhere."""

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from datastill.core.errors import ConfigError
from datastill.core.lookup import find, names
from datastill.core.options import (
    check_bounds,
    from_json,
    non_default,
    option,
    options,
    to_json,
)

FOLDERS = [f"datastill.{f}" for f in ("methods", "networks", "objectives", "transfer")]
COMPONENTS = [find(folder, name) for folder in FOLDERS for name in names(folder)]


@dataclass(frozen=True)
class Toy:
    """A component."""

    widths: tuple[int, ...] = option((4, 8), "channels")
    lr: float | None = option(None, "learning rate")
    nested: tuple[tuple[int, ...], ...] = option(((1,), (2, 3)), "nested")
    later: bool = option(False, "an option that came later", omit_default=True)


@dataclass(frozen=True)
class Outer:
    """A component that holds another."""

    toy: Toy = option(Toy(), "inner component")


def test_options__have_names_defaults_and_help() -> None:
    widths = options(Toy)[0]
    assert (widths.name, widths.default, widths.help) == ("widths", (4, 8), "channels")
    assert options(Toy(widths=(1,))) == options(Toy)


@pytest.mark.parametrize("toy", [Toy(), Toy(widths=(), lr=0.1, nested=())])
def test_from_json__undoes_to_json(toy: Toy) -> None:
    assert from_json(Toy, json.loads(json.dumps(to_json(toy)))) == toy


def test_to_json__leaves_out_the_default_of_an_option_that_came_later() -> None:
    assert "later" not in to_json(Toy()) and to_json(Toy(later=True))["later"] is True


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda c: str(c.__name__))
def test_from_json__undoes_to_json_of_every_component(component: type) -> None:
    value = component()
    assert from_json(component, json.loads(json.dumps(to_json(value)))) == value


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda c: str(c.__name__))
def test_options__every_component_explains_every_option(component: type) -> None:
    assert all(o.help for o in options(component))


def test_from_json__unknown_option_is_named_with_all() -> None:
    with pytest.raises(ConfigError, match="no option depth; it has later, lr, nested, widths"):
        from_json(Toy, {"depth": 3})


def test_non_default__lists_only_what_differs() -> None:
    assert non_default(Toy(widths=(3,))) == {"widths": [3]}


def test_options__need_no_torch() -> None:
    code = "import sys, datastill.core.options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@dataclass(frozen=True)
class Typed:
    """One option of each kind of type."""

    number: float = option(1.0, "number")
    count: int = option(1, "whole number")
    flag: bool = option(False, "flag")
    word: Literal["small", "large"] = option("small", "word")
    pair: tuple[int, float] = option((1, 0.5), "pair")
    toy: Toy | None = option(None, "component")

    def __post_init__(self) -> None:
        check_bounds(self)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"number": "1"}, "Typed: number='1': expected a number"),
        ({"number": True}, "Typed: number=True: expected a number"),
        ({"number": math.nan}, "Typed: number=nan: expected a number of at most 1e"),
        ({"count": 2.5}, "Typed: count=2.5: expected a whole number"),
        ({"count": True}, "Typed: count=True: expected a whole number"),
        ({"count": None}, "Typed: count=None: expected a whole number"),
        ({"flag": 1}, "Typed: flag=1: expected True or False"),
        ({"word": "grey"}, "Typed: word='grey': expected small or large"),
        ({"word": 1}, "Typed: word=1: expected small or large"),
        ({"pair": (1,)}, r"Typed: pair=\(1,\): expected a tuple of a whole number and a number"),
        ({"pair": ("a", 1)}, "Typed: pair=.*: expected a tuple"),
        ({"pair": [1, 1]}, "Typed: pair=.*: expected a tuple"),
        ({"toy": Outer()}, "Typed: toy=Outer.*: expected a Toy or None"),
    ],
)
def test_check_bounds__refuses_values_of_other_types(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Typed(**values)


def test_check_bounds__takes_whole_numbers_for_numbers() -> None:
    assert Typed(number=2, pair=(3, 4), toy=Toy()).number == 2


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda c: str(c.__name__))
def test_check_bounds__is_called_by_every_component(component: type) -> None:
    for each in options(component):
        with pytest.raises(ConfigError, match=f"{component.__name__}: {each.name}=.*: expected"):
            component(**{each.name: object()})
