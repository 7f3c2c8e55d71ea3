"""Options: declared once, read everywhere."""

import json
import subprocess
import sys
from dataclasses import dataclass

import pytest

from datastill.ground.errors import ConfigError
from datastill.ground.lookup import find, names
from datastill.ground.options import from_json, non_default, option, options, to_json
from datastill.methods.krr_st import KRRST

FOLDERS = [f"datastill.{f}" for f in ("methods", "networks", "objectives", "transfer")]
COMPONENTS = [find(folder, name) for folder in FOLDERS for name in names(folder)]


@dataclass(frozen=True)
class Toy:
    """A component."""

    widths: tuple[int, ...] = option((4, 8), "channels")
    lr: float | None = option(None, "learning rate")
    nested: tuple[tuple[int, ...], ...] = option(((1,), (2, 3)), "nested")


@dataclass(frozen=True)
class Outer:
    """A component that holds another."""

    toy: Toy = option(Toy(), "inner component")


def test_options__have_names_defaults_and_help() -> None:
    found = options(Toy)[0]
    assert (found.name, found.default, found.help) == ("widths", (4, 8), "channels")
    assert options(Toy(widths=(1,))) == options(Toy)


def test_to_json__is_plain() -> None:
    assert json.loads(json.dumps(to_json(Outer()))) == to_json(Outer())


@pytest.mark.parametrize("toy", [Toy(), Toy(widths=(), lr=0.1, nested=())])
def test_from_json__undoes_to_json(toy: Toy) -> None:
    assert from_json(Toy, json.loads(json.dumps(to_json(toy)))) == toy


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda c: str(c.__name__))
def test_from_json__undoes_to_json_of_every_component(component: type) -> None:
    made = component()
    assert from_json(component, json.loads(json.dumps(to_json(made)))) == made


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda c: str(c.__name__))
def test_options__every_component_explains_every_option(component: type) -> None:
    assert all(found.help for found in options(component))


def test_from_json__unknown_option_is_named_with_all() -> None:
    with pytest.raises(ConfigError, match="Toy has no option depth; it has lr, nested, widths"):
        from_json(Toy, {"depth": 3})


def test_non_default__lists_only_what_differs() -> None:
    assert non_default(Toy(widths=(3,))) == {"widths": [3]}


def test_options__need_no_torch() -> None:
    code = "import sys, datastill.ground.options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_check_bounds__unknown_word_is_refused() -> None:
    with pytest.raises(ConfigError, match="pixel_space='grey': expected unit or normalized or raw"):
        KRRST(pixel_space="grey")  # type: ignore[arg-type]
