"""Imports point down: a module imports its own folder, lower layers and what stands left of it."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "datastill"
LAYERS = (  # from the lowest; within a layer, from left to right
    ("core",),
    ("batches", "ops", "networks", "augment", "objectives", "picture_grid"),
    (
        "images",
        "stored_form",
        "distilled_set",
        "data",
        "target_model",
        "target_cache",
        "pretrained_network",
        "export",
        "convert",
    ),
    ("problem", "target_monitor", "train_target", "pretrain", "methods", "transfer", "protocols"),
    ("choose_form", "distill", "report", "experiments", "recipes"),
    ("cli", "__main__", "__init__"),
)
LAYER = {name: number for number, name in enumerate(name for layer in LAYERS for name in layer)}
FILES = sorted(ROOT.rglob("*.py"))


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def unit(file: Path) -> str:
    """The folder or module directly below the package that a file belongs to."""
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(file: Path) -> Iterator[str]:
    """Modules, and names with their modules."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def units(file: Path) -> set[str]:
    names = [name.split(".") for name in imported(file)]
    return {parts[1] for parts in names if parts[0] == "datastill" and len(parts) > 1}


def in_functions(file: Path) -> Iterator[int]:
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Import | ast.ImportFrom):
                    yield inner.lineno


def test_layers__cover_every_module_and_folder() -> None:
    assert {unit(file) for file in FILES} == set(LAYER)


def test_layers__are_drawn_in_the_architecture_page() -> None:
    text = (ROOT.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn = text.partition("## Layers")[2].split("```")[1].splitlines()[1:]
    rows = [tuple(line.replace(" · ", " ").split()[1:]) for line in reversed(drawn)]
    assert rows == list(LAYERS)


def test_layers__imports_point_down() -> None:
    pairs = [(unit(file), name) for file in FILES for name in units(file) - {unit(file)}]
    upward = [f"{own} imports {name}" for own, name in pairs if LAYER[name] >= LAYER[own]]
    assert not upward


def test_layers__nothing_is_imported_inside_a_function() -> None:
    assert not [f"{file}:{line}" for file in FILES for line in in_functions(file)]


def test_layers__distilled_set_needs_little() -> None:
    assert units(ROOT / "distilled_set.py") <= {
        "core",
        "ops",
        "images",
        "picture_grid",
        "stored_form",
        "compression",
    }


def test_layers__report_touches_no_training() -> None:
    needed = set().union(*(units(file) for file in (ROOT / "report").glob("*.py")))
    assert needed <= {"report", "core", "distilled_set", "picture_grid"}


def test_layers__private_modules_stay_in_their_folder() -> None:
    for file in FILES:
        own = ".".join(["datastill", *file.relative_to(ROOT).parts[:-1]])
        foreign = {
            name
            for name in imported(file)
            if any(p.startswith("_") and not p.startswith("__") for p in name.split(".")[1:-1])
            and not name.startswith(f"{own}.")
        }
        assert not foreign, f"{file} imports private modules of another folder: {sorted(foreign)}"


def test_architecture_page__names_files_that_exist() -> None:
    text = (ROOT.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    paths = re.findall(r"`((?:\w+/)*\w+\.py)`", text)
    missing = [p for p in paths if not ((ROOT / p).exists() or (ROOT.parent / p).exists())]
    assert paths and not missing


@pytest.mark.parametrize(
    ("path", "most"), [("a step of KRR-ST", 6), ("an image", 8), ("an accuracy", 5)]
)
def test_architecture_page__paths_are_short(path: str, most: int) -> None:
    text = (ROOT.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    (row,) = [line for line in text.splitlines() if line.startswith(f"| {path}")]
    assert 1 < row.count(".py`") <= most
