"""What the package says of itself: metadata, long description, extras, hosted workflow."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
PYTHONS = ["3.11", "3.12", "3.13"]
long_description = runpy.run_path(str(ROOT / "setup.py"))["long_description"]


def links(markdown: str) -> list[str]:
    """Targets of all links and pictures of a page."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(markdown)
    children = [child for token in tokens for child in token.children or []]
    targets = [child.attrs.get("href") or child.attrs.get("src") for child in children]
    return [str(target) for target in targets if target]


def test_long_description__has_no_relative_link_or_picture() -> None:
    assert [link for link in links(README) if not link.startswith("http")]
    text = long_description(README)
    assert not [link for link in links(text) if not link.startswith("https://")]
    assert "](docs" not in text and "<img" not in text
    assert len(text) > 0.9 * len(README)


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("see [docs/a.md](docs/a.md).", "see `docs/a.md`."),
        ("a ([record](b/c/notes.md), n = 3)", "a (record (`b/c/notes.md`), n = 3)"),
        ("[all](b/README.md#records)", "all (`b/README.md#records`)"),
        ("[torch](https://pytorch.org), `[b](c)`", "[torch](https://pytorch.org), `b (`c`)`"),
        ("a\n\n![alt](docs/b.png)\n\n*A caption\nof two lines.*\n\nc", "a\n\nc"),
        ("a\n\n![alt](docs/b.png)\n\n**Bold** text", "a\n\n**Bold** text"),
    ],
)
def test_long_description__shows_paths_in_code_font(markdown: str, expected: str) -> None:
    assert long_description(markdown) == expected


def test_project__says_who_and_under_which_licence() -> None:
    assert PROJECT["authors"] == [{"name": "the datastill developers"}]
    assert PROJECT["license"] == "Apache-2.0" and "urls" not in PROJECT
    assert "Typing :: Typed" in PROJECT["classifiers"]


def test_project__names_the_pythons_that_are_tested() -> None:
    prefix = "Programming Language :: Python :: "
    named = [line.removeprefix(prefix) for line in PROJECT["classifiers"] if prefix in line]
    assert [name for name in named if "." in name] == PYTHONS
    assert WORKFLOW["jobs"]["tests"]["strategy"]["matrix"]["python"] == PYTHONS
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    assert f"Python {', '.join(PYTHONS[:-1])} or {PYTHONS[-1]}" in README


def test_project__version_stands_in_one_place() -> None:
    texts = [*ROOT.glob("*.cff"), *ROOT.glob("*.py"), *(ROOT / "datastill").rglob("*.py")]
    place = re.compile(rf"""^\W*(__)?version(__)?\W+{re.escape(PROJECT["version"])}\b""", re.M)
    assert place.search((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert not [path for path in texts if place.search(path.read_text(encoding="utf-8"))]


def test_readme__lists_the_extras() -> None:
    table = README.partition("| extra |")[2].partition("\n\n")[0]
    extras = {*PROJECT["optional-dependencies"]} - {"dev"}
    assert {*re.findall(r"^\| `(\w+)`", table, re.M)} == extras


def test_workflow__calls_targets_that_exist() -> None:
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    steps = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]
    called = [step["run"] for step in steps if "run" in step]
    assert {*called} == {"make check", "make fast", "make wheel"}
    assert {line.removeprefix("make ") for line in called} <= {*targets}
