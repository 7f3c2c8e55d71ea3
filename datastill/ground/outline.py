"""The options of a component, read from the text of its module without importing it.

So `--help` and the refusal of unknown flags need no torch. What is read here equals what
`options` says of the imported class; tests/ground/test_outline.py holds it to that.
"""

import ast
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal

from datastill.ground.options import Option

BUILTIN_TYPES: dict[str, Any] = {
    "Literal": Literal,
    **{cls.__name__: cls for cls in (int, float, bool, str, tuple)},
}


def outline(module: str) -> list[Option]:
    """The options of the one class in a module that declares any; none where no class does."""
    tree = _tree(module)
    types = {**BUILTIN_TYPES, **_literals(tree)}
    declared = [
        (field, field.value)
        for cls in tree.body
        if isinstance(cls, ast.ClassDef)
        for field in cls.body
        if isinstance(field, ast.AnnAssign) and _is_option(field.value)
    ]
    return [_option(field, call, types) for field, call in declared if isinstance(call, ast.Call)]


def summary(module: str) -> str:
    """The first line of a module's docstring, which says what it is."""
    return (ast.get_docstring(_tree(module)) or "").partition("\n")[0]


def class_constant(module: str, name: str) -> Any:
    """The literal that a class of a module gives to `name`, such as a data set's licence."""
    values = [
        field.value
        for cls in _tree(module).body
        if isinstance(cls, ast.ClassDef)
        for field in cls.body
        if isinstance(field, ast.AnnAssign) and ast.unparse(field.target) == name
    ]
    assert len(values) == 1 and values[0] is not None, (module, name)
    return ast.literal_eval(values[0])


@cache
def _tree(module: str) -> ast.Module:
    found = importlib.util.find_spec(module)
    assert found is not None and found.origin is not None, module
    return ast.parse(Path(found.origin).read_text(encoding="utf-8"))


def _is_option(value: ast.expr | None) -> bool:
    called = value.func if isinstance(value, ast.Call) else None
    return isinstance(called, ast.Name) and called.id == "option"


def _option(field: ast.AnnAssign, call: ast.Call, types: dict[str, Any]) -> Option:
    assert isinstance(field.target, ast.Name)
    annotation = compile(ast.Expression(field.annotation), "annotation", "eval")
    kind = eval(annotation, {"__builtins__": {}}, types)  # our own source, names of types alone
    default, text = (ast.literal_eval(argument) for argument in call.args)
    return Option(field.target.id, kind, default, text)


def _literals(tree: ast.Module) -> dict[str, Any]:
    """The names that stand for a Literal in a module, its own and those that it imports."""
    imported: dict[str, Any] = {}
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom) and str(statement.module).startswith("datastill."):
            imported |= dict(_own_literals(_tree(str(statement.module))))
    return {**imported, **dict(_own_literals(tree))}


def _own_literals(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    for statement in tree.body:
        match statement:
            case ast.Assign(
                targets=[ast.Name(id=name)],
                value=ast.Subscript(value=ast.Name(id="Literal"), slice=values),
            ):
                choices = ast.literal_eval(values)
                yield name, Literal[choices]
