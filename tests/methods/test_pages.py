"""Every method has its page, in one form, whose commands the command line understands."""

import shlex
from pathlib import Path

import pytest

from datastill.command.understand import understand
from datastill.ground.lookup import names

PAGES = Path(__file__).parents[2] / "docs" / "methods"
METHODS = names("datastill.methods")
HEADINGS = ["Idea", "Equation", "Usage", "Logged metrics", "Deviations", "Results"]
every_method = pytest.mark.parametrize("name", METHODS)


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


@every_method
def test_page__has_the_headings(name: str) -> None:
    lines = page(name).splitlines()
    assert [line.removeprefix("## ") for line in lines if line.startswith("## ")] == HEADINGS
    assert lines[0].startswith("# ") and ": " in lines[0]


@every_method
def test_page__commands_are_understood(name: str) -> None:
    text = page(name).replace("\\\n", " ")
    commands = [line.strip() for line in text.splitlines() if line.startswith("    datastill ")]
    assert commands
    for line in commands:
        _, verb, *words = shlex.split(line, comments=True)
        assert understand(verb, words).groups["method"]["name"] == name


def test_pages__there_is_none_without_a_method() -> None:
    assert sorted(file.stem for file in PAGES.glob("*.md")) == sorted([*METHODS, "README"])


def test_index__names_every_method_once() -> None:
    index = (PAGES / "README.md").read_text(encoding="utf-8")
    assert [index.count(f"]({name}.md)") for name in METHODS] == [1] * len(METHODS)
