"""From a public name to the component in the file of that name.

`find("datastill.methods", "krr-st")` imports `datastill/methods/krr_st.py` and returns the one
final component class in it. There is no registry to fill; files with a leading underscore are
shared parts and no components.
"""

import dataclasses
import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Iterable
from typing import Any

from datastill.ground.errors import ConfigError


def names(folder: str) -> list[str]:
    """Public names of all components in a package folder and those below, sorted.

    A component in a folder below has that folder's name in front: paper.table1-cifar100.
    """
    found = []
    for module in pkgutil.iter_modules(importlib.import_module(folder).__path__):
        if module.ispkg:
            found += [f"{module.name}.{name}" for name in names(f"{folder}.{module.name}")]
        elif not module.name.startswith("_"):
            found.append(module.name.replace("_", "-"))
    return sorted(found)


def find(folder: str, name: str) -> type[Any]:
    """The component class called `name` in a package folder.

    Raises:
        ConfigError: there is no such component; the message has the nearest name and all names.
    """
    kind = folder.rpartition(".")[2]
    check_name(name, names(folder), kind=kind)
    module = importlib.import_module(f"{folder}.{name.replace('-', '_')}")
    found = [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and value.__module__ == module.__name__
        and dataclasses.is_dataclass(value)
        and not inspect.isabstract(value)
        and any(base.__module__ == f"{folder}._base" for base in value.__mro__)
    ]
    assert len(found) == 1, f"{module.__name__} must define one component, not {found}"
    return found[0]


def public_name(component: Any) -> str:
    """The public name of a component: its file's name, with dashes."""
    cls = component if isinstance(component, type) else type(component)
    return cls.__module__.rpartition(".")[2].replace("_", "-")


def check_name(name: str, known: Iterable[str], *, kind: str) -> None:
    """Answer an unknown name with the nearest right one.

    Raises:
        ConfigError: `name` is not among `known`.
    """
    known = list(known)
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise ConfigError(
        f"there is no {name!r} among the {kind}{hint} Choose one of: {', '.join(known)}"
    )
