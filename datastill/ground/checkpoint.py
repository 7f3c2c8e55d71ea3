"""Capture and restore the whole state of a run, bit for bit.

A state is a dataclass of tensors, generators, modules, optimizers, plain values, and lists,
tuples, dictionaries or dataclasses of these. `capture` walks it into named tensors and a JSON
tree; `restore` fills the same structure in place. A checkpoint is one safetensors file: no
pickle, a SHA-256 inside, and the identity of the run it belongs to.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from datastill.ground.errors import ArtefactError, DataError, ResumeError
from datastill.ground.tensor_file import read_checked, write_checked

FORMAT = "datastill.checkpoint"
FORMAT_VERSION = 2

Tree = Any  # JSON: values, lists, {"dict": [[key, tree], ...]}, {"tensor": name}


def capture(state: Any) -> tuple[Tree, dict[str, Tensor]]:
    """(tree, tensors) of a state; the tensors are the live ones, not copies."""
    tensors: dict[str, Tensor] = {}
    return _capture(state, "state", tensors), tensors


def restore(state: Any, tree: Tree, tensors: dict[str, Tensor]) -> None:
    """Fill `state` in place with what `capture` found.

    Raises:
        ResumeError: a part is missing, unknown or of another shape.
    """
    if unused := sorted(set(tensors) - set(_tensor_names(tree))):
        raise ResumeError(f"the checkpoint does not say what {', '.join(unused)} are for")
    _restore(state, tree, tensors, "state")


def write(path: Path, state: Any, identity: dict[str, Any]) -> None:
    """Save a state with the identity of its run; the file appears whole or not at all.

    Raises:
        DataError: the file cannot be written, or its folder is gone: a new one would hide that the
            other files of the run are gone too.
    """
    if not path.parent.is_dir():
        raise DataError(f"{path} cannot be written: {path.parent} is gone")
    tree, tensors = capture(state)
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "identity": json.dumps(identity, sort_keys=True),
        "tree": json.dumps(tree),
    }
    write_checked(path, tensors, metadata)


def read(path: Path, state: Any, identity: dict[str, Any]) -> None:
    """Restore a state from a file that belongs to the same run.

    Raises:
        ResumeError: the file belongs to another configuration, or does not fit the state.
        ArtefactError: the file is damaged.
    """
    tensors, metadata = read_checked(path, FORMAT, FORMAT_VERSION)
    try:
        found, tree = json.loads(metadata["identity"]), json.loads(metadata["tree"])
        if differing := differences(found, json.loads(json.dumps(identity))):
            raise ResumeError(
                f"{path} belongs to another run; it differs in {'; '.join(differing)}."
                " Give the same options, or another --out"
            )
        restore(state, tree, tensors)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ArtefactError(f"{path} lacks a part of a checkpoint: {error!r}") from error


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """The fields in which two JSON configurations differ, as `name: old, now new`."""
    found = []
    for key in sorted(set(old) | set(new)):
        before, after = old.get(key, "absent"), new.get(key, "absent")
        if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
            before, after = ({str(n): v for n, v in enumerate(x)} for x in (before, after))
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key}: {before}, now {after}")
    return found


def _capture(value: Any, path: str, tensors: dict[str, Tensor]) -> Tree:
    if isinstance(value, Tensor):
        tensors[path] = value.detach()
        return {"tensor": path}
    if isinstance(value, Generator):
        tensors[path] = value.get_state()
        return {"tensor": path}
    if isinstance(value, torch.optim.Optimizer):  # a new one cannot say what an old one held
        saved = value.state_dict()
        return _capture({**saved, "holds": _outline(saved["state"])}, path, tensors)
    if isinstance(value, nn.Module):
        return _capture(value.state_dict(), path, tensors)
    if dataclasses.is_dataclass(value):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        pairs = [[k, _capture(v, f"{path}.{k}", tensors)] for k, v in value.items()]
        return {"dict": pairs}
    if isinstance(value, list | tuple):
        return [_capture(v, f"{path}.{k}", tensors) for k, v in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{path}: a {type(value).__name__} cannot be part of a run's state")


def _tensor_names(tree: Tree) -> Iterator[str]:
    if isinstance(tree, list):
        for part in tree:
            yield from _tensor_names(part)
    elif isinstance(tree, dict) and "tensor" in tree:
        yield tree["tensor"]
    elif isinstance(tree, dict):
        yield from _tensor_names(tree["dict"])


def _rebuild(tree: Tree, tensors: dict[str, Tensor], path: str) -> Any:
    if isinstance(tree, dict) and "tensor" in tree:
        if tree["tensor"] not in tensors:
            raise ResumeError(f"the checkpoint lacks the tensor {path}")
        return tensors[tree["tensor"]]
    if isinstance(tree, dict):
        return {k: _rebuild(v, tensors, f"{path}.{k}") for k, v in tree["dict"]}
    if isinstance(tree, list):
        return [_rebuild(v, tensors, f"{path}.{k}") for k, v in enumerate(tree)]
    return tree


def _restore(value: Any, tree: Tree, tensors: dict[str, Tensor], path: str) -> Any:
    """Fill `value` in place where it has an identity; return what to store where it has none."""
    if dataclasses.is_dataclass(value):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        for name, filled in _restore_named(fields, tree, tensors, path).items():
            setattr(value, name, filled)
        return value
    if isinstance(value, dict):
        value.update(_restore_named(value, tree, tensors, path))
        return value
    if isinstance(value, list | tuple):
        filled = _restore_row(value, tree, tensors, path)
        if isinstance(value, tuple):
            return tuple(filled)
        value[:] = filled
        return value
    rebuilt = _rebuild(tree, tensors, path)
    try:
        return _refill(value, rebuilt)
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ResumeError(f"the checkpoint's {path} does not fit: {error}") from error


def _restore_row(
    value: Sequence[Any], tree: Tree, tensors: dict[str, Tensor], path: str
) -> list[Any]:
    if not isinstance(tree, list) or len(tree) != len(value):
        raise ResumeError(f"the checkpoint's {path} is not a list of {len(value)}")
    pairs = enumerate(zip(value, tree, strict=True))
    return [_restore(v, t, tensors, f"{path}.{k}") for k, (v, t) in pairs]


def _restore_named(
    value: dict[str, Any], tree: Tree, tensors: dict[str, Tensor], path: str
) -> dict[str, Any]:
    saved = dict(tree["dict"]) if isinstance(tree, dict) and "dict" in tree else {}
    if differing := sorted(map(str, set(value) ^ set(saved))):
        raise ResumeError(f"the checkpoint's {path} and this program differ in {differing}")
    return {k: _restore(v, saved[k], tensors, f"{path}.{k}") for k, v in value.items()}


def _refill(value: Any, rebuilt: Any) -> Any:
    if isinstance(value, Tensor):
        if not isinstance(rebuilt, Tensor):
            raise TypeError(f"{rebuilt!r} is no tensor")
        if value.shape != rebuilt.shape or value.dtype != rebuilt.dtype:
            raise ValueError(f"{tuple(rebuilt.shape)} is not {tuple(value.shape)}")
        with torch.no_grad():
            return value.copy_(rebuilt)
    if isinstance(value, Generator):
        value.set_state(rebuilt)
        return value
    if isinstance(value, torch.optim.Optimizer):  # it does not look whether anything is missing
        live, saved = (_outline(x["param_groups"]) for x in (value.state_dict(), rebuilt))
        if live != saved:
            raise ValueError("it has other optimizer settings")
        if rebuilt.pop("holds") != _outline(rebuilt["state"]):
            raise ValueError("it lacks a part of what the optimizer held")
        value.load_state_dict(rebuilt)
        return value
    if isinstance(value, nn.Module):  # batch norm would do without its counter
        if missing := sorted(set(value.state_dict()) - set(rebuilt)):
            raise ValueError(f"it lacks {', '.join(missing)}")
        value.load_state_dict(rebuilt)
        return value
    return rebuilt


def _outline(value: Any) -> Any:
    """The keys and lengths of nested dictionaries and lists, without what is in them."""
    if isinstance(value, dict):
        return {k: _outline(v) for k, v in value.items()}
    return [_outline(v) for v in value] if isinstance(value, list | tuple) else "value"
