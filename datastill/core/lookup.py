"""Find components by their public names, which are those of their files.

`find("datastill.methods", "krr-st")` imports `datastill/methods/krr_st.py` and returns the one
component class in it; there is no registry. Files with a leading underscore hold no component, nor
do those that `NOT_COMPONENTS` in the `__init__.py` of the folder lists.
"""

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Iterable
from typing import Any

from datastill.core.errors import ConfigError


def names(folder: str) -> list[str]:
    """List the public names of all components in a package folder and those below, sorted.

    A component in a folder below has that folder's name in front: paper.table1-cifar100.
    """
    package = importlib.import_module(folder)
    others = getattr(package, "NOT_COMPONENTS", ())
    components = []
    for module in pkgutil.iter_modules(package.__path__):
        if module.ispkg:
            components += [f"{module.name}.{name}" for name in names(f"{folder}.{module.name}")]
        elif not module.name.startswith("_") and module.name not in others:
            components.append(module.name.replace("_", "-"))
    return sorted(components)


def find(folder: str, name: str) -> type[Any]:
    """Import the component class called `name` in a package folder.

    Args:
        folder: Such as "datastill.methods".
        name: Such as "krr-st".

    Raises:
        ConfigError: There is no such component; the message has the nearest name and all names.
    """
    check_name(name, names(folder), kind=folder.rpartition(".")[2])
    module = importlib.import_module(f"{folder}.{name.replace('-', '_')}")
    components = [
        cls
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if cls.__module__ == module.__name__ and not inspect.isabstract(cls)
        if any(inspect.isabstract(x) and x.__module__.startswith(f"{folder}.") for x in cls.__mro__)
    ]
    assert len(components) == 1, f"{module.__name__} must define one component, not {components}"
    return components[0]


def public_name(component: Any) -> str:
    """Return the public name of a component (class or object): its file's name, with dashes."""
    cls = component if isinstance(component, type) else type(component)
    return cls.__module__.rpartition(".")[2].replace("_", "-")


def check_name(name: str, valid_names: Iterable[str], *, kind: str) -> None:
    """Refuse an unknown name, and suggest the nearest valid one.

    Raises:
        ConfigError: `name` is not among `valid_names`.
    """
    valid_names = list(valid_names)
    if name in valid_names:
        return
    near = difflib.get_close_matches(name, valid_names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise ConfigError(
        f"there is no {name!r} among the {kind}{hint} Choose one of: {', '.join(valid_names)}"
    )
