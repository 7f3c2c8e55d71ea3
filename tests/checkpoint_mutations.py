"""Checkpoints with one part left out: every part of a captured state once."""

import copy
from collections.abc import Iterator
from typing import Any

from torch import Tensor

Place = tuple[int | str, ...]


def places(tree: Any, path: Place = ()) -> Iterator[Place]:
    """Where each key and each list entry of a tree stands."""
    if isinstance(tree, dict) and "dict" in tree:
        for k, (_, value) in enumerate(tree["dict"]):
            yield (*path, "dict", k)
            yield from places(value, (*path, "dict", k, 1))
    elif isinstance(tree, list):
        for k, value in enumerate(tree):
            yield (*path, k)
            yield from places(value, (*path, k))


def without(tree: Any, place: Place) -> Any:
    pruned = copy.deepcopy(tree)
    at = pruned
    for key in place[:-1]:
        at = at[key]
    del at[place[-1]]
    return pruned


def omissions(
    tree: Any, tensors: dict[str, Tensor]
) -> Iterator[tuple[Place, Any, dict[str, Tensor]]]:
    """(place, tree, tensors) with what stands at the place left out, its tensors too."""
    for place in places(tree):
        rest = without(tree, place)
        held = set(named(rest))
        yield place, rest, {name: value for name, value in tensors.items() if name in held}


def named(tree: Any) -> Iterator[str]:
    """The tensors that a tree speaks of."""
    if isinstance(tree, dict):
        yield from [tree["tensor"]] if "tensor" in tree else named(tree["dict"])
    elif isinstance(tree, list):
        for value in tree:
            yield from named(value)
