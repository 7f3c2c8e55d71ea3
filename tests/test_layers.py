"""Imports point down: a module imports strictly lower layers and its own folder, nothing else."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "datastill"
LAYERS = (
    ("ground",),
    ("maths",),
    ("images", "networks", "augment", "batches"),
    ("artefact", "data", "target_model", "objectives"),
    ("target_cache", "held_out", "pretrain", "target_monitor", "convert"),
    ("train_target", "methods", "transfer", "origins"),
    ("protocols",),
    ("distill", "transfer_rows", "report"),
    ("experiments",),
    ("recipes",),
    ("cli",),
    ("__main__", "__init__"),
)
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}
FILES = sorted(ROOT.rglob("*.py"))
every_file = pytest.mark.parametrize(
    "file", FILES, ids=[str(file.relative_to(ROOT)) for file in FILES]
)


def unit(file: Path) -> str:
    """The folder or module directly below the package that a file belongs to."""
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def units(file: Path) -> set[str]:
    names = [name.split(".") for name in imported(ast.parse(file.read_text(encoding="utf-8")))]
    return {parts[1] for parts in names if parts[0] == "datastill" and len(parts) > 1}


def in_functions(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Import | ast.ImportFrom):
                    yield inner.lineno


def test_layers__cover_every_module_and_folder() -> None:
    assert {unit(file) for file in FILES} == set(LAYER)


def test_layers__are_drawn_in_the_map() -> None:
    text = (ROOT.parent / "docs" / "map.md").read_text(encoding="utf-8")
    drawn = text.partition("## Layers")[2].split("```")[1].splitlines()[1:]
    rows = [set(line.replace(" · ", " ").split()[1:]) for line in reversed(drawn)]
    assert rows == [set(names) for names in LAYERS]


@every_file
def test_layers__imports_point_down(file: Path) -> None:
    own = unit(file)
    upward = {name for name in units(file) - {own} if LAYER[name] >= LAYER[own]}
    assert not upward, f"{own} (layer {LAYER[own]}) must not import {sorted(upward)}"


@every_file
def test_layers__nothing_is_imported_inside_a_function(file: Path) -> None:
    assert not list(in_functions(ast.parse(file.read_text(encoding="utf-8"))))


def test_layers__artefact_can_be_read_with_little() -> None:
    assert units(ROOT / "artefact.py") <= {"ground", "maths", "images"}


def test_layers__report_touches_no_training() -> None:
    needed = set().union(*(units(file) for file in (ROOT / "report").glob("*.py")))
    assert needed <= {"report", "ground", "maths", "artefact"}
