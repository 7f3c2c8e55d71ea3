"""Every method has its page, in one form, whose commands the command line understands."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from datastill.cli.distill import make_parser
from datastill.core.lookup import find, names
from datastill.core.options import options

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
        _, command, *words = shlex.split(line, comments=True)
        assert command == "distill" and make_parser(words).parse()["method"]["name"] == name


@every_method
def test_page__options_of_usage_exist(name: str) -> None:
    """Named as flags, at the start of a point or a table row, or anywhere with an underscore."""
    usage = page(name).partition("## Usage")[2].partition("\n## ")[0]
    ticked = re.findall(r"`([^`\n]+)`", usage)
    snake = [word for text in ticked for word in re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", text)]
    named = {
        *snake,
        *re.findall(r"--method\.(\w+)", usage),
        *re.findall(r"^[-|] `(\w+)", usage, re.M),
    }
    assert named
    assert named <= {o.name for o in options(find("datastill.methods", name))}


@every_method
def test_list__first_line_names_the_source(name: str) -> None:
    first = importlib.import_module(find("datastill.methods", name).__module__).__doc__
    assert first is not None
    line = first.splitlines()[0]
    assert re.search(r"\(.* (19|20)\d\d[,);]", line) or "in no paper" in line


def test_pages__there_is_none_without_a_method() -> None:
    assert sorted(file.stem for file in PAGES.glob("*.md")) == sorted([*METHODS, "README"])


def test_index__names_every_method_once() -> None:
    index = (PAGES / "README.md").read_text(encoding="utf-8")
    assert [index.count(f"]({name}.md)") for name in METHODS] == [1] * len(METHODS)
