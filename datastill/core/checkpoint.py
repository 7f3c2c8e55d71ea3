"""Capture and restore the whole state of a run, bit for bit.

A state is a dataclass of tensors, generators, modules, optimizers, plain values, and lists, tuples,
dictionaries or dataclasses of these. `capture` turns it into named tensors and a JSON tree;
`restore` fills the same structure in place. A checkpoint is one safetensors file (no pickle) with a
SHA-256 inside and the identity of the run that it belongs to.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from datastill.core.errors import ArtefactError, DataError, ResumeError
from datastill.core.options import plain
from datastill.core.tensor_file import read_checked, write_checked

FORMAT = "datastill.checkpoint"
FORMAT_VERSION = 2

Tree = Any  # JSON: values, lists, {"dict": [[key, tree], ...]}, {"tensor": name}


def capture(state: Any) -> tuple[Tree, dict[str, Tensor]]:
    """Turn a state into a JSON tree and the tensors that it names; they are no copies."""
    tensors: dict[str, Tensor] = {}
    return _capture(state, "state", tensors), tensors


def restore(state: Any, tree: Tree, tensors: dict[str, Tensor]) -> None:
    """Fill `state` in place with what `capture` returned.

    Raises:
        ResumeError: A part is missing, unknown or of another shape.
    """
    remaining = dict(tensors)
    saved = _rebuild(tree, remaining, "state")
    if remaining:
        raise ResumeError(f"the checkpoint has unknown tensors: {', '.join(sorted(remaining))}")
    _load(state, saved, "state")


def write(path: Path, state: Any, identity: dict[str, Any]) -> None:
    """Save a state with the identity of its run, atomically.

    Raises:
        DataError: The file cannot be written, or its folder is gone. It is not made again, which
            would hide that the other files of the run are gone too.
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
        ResumeError: The file belongs to another configuration, or does not fit the state.
        ArtefactError: The file is damaged.
    """
    tensors, metadata = read_checked(path, FORMAT, FORMAT_VERSION)
    try:
        saved_identity, tree = json.loads(metadata["identity"]), json.loads(metadata["tree"])
        if changes := differences(saved_identity, plain(identity)):
            raise ResumeError(
                f"{path} belongs to another run; it differs in {'; '.join(changes)}."
                " Give the same options, or another --out"
            )
        restore(state, tree, tensors)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ArtefactError(f"{path} lacks a part of a checkpoint: {error!r}") from error


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """List the fields in which two JSON configurations differ, as `name: old, now new`.

    Objects with equal fingerprints are equal: images, say, whose folder was renamed.
    """
    changes = []
    for key in sorted(set(old) | set(new)):
        before, after = old.get(key, "absent"), new.get(key, "absent")
        if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
            before, after = ({str(n): v for n, v in enumerate(x)} for x in (before, after))
        if isinstance(before, dict) and isinstance(after, dict):
            if before.get("fingerprint", 0) != after.get("fingerprint", 1):
                changes += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            changes.append(f"{prefix}{key}: {before}, now {after}")
    return changes


def _capture(value: Any, path: str, tensors: dict[str, Tensor]) -> Tree:
    if isinstance(value, Tensor):
        tensors[path] = value.detach()
        return {"tensor": path}
    if isinstance(value, Generator):
        tensors[path] = value.get_state()
        return {"tensor": path}
    if isinstance(value, torch.optim.Optimizer):  # a new one has no momenta to compare with
        saved = value.state_dict()
        return _capture({**saved, "holds": _structure(saved["state"])}, path, tensors)
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


def _rebuild(tree: Tree, tensors: dict[str, Tensor], path: str) -> Any:
    """Return the dictionaries and lists of a tree, with its tensors taken out of `tensors`."""
    if isinstance(tree, dict) and "tensor" in tree:
        if tree["tensor"] not in tensors:
            raise ResumeError(f"the checkpoint lacks the tensor {path}")
        return tensors.pop(tree["tensor"])
    if isinstance(tree, dict):
        return {k: _rebuild(v, tensors, f"{path}.{k}") for k, v in tree["dict"]}
    if isinstance(tree, list):
        return [_rebuild(v, tensors, f"{path}.{k}") for k, v in enumerate(tree)]
    return tree


def _load(value: Any, saved: Any, path: str) -> Any:
    """Fill `value` in place where it is mutable; return what stands in its place."""
    if dataclasses.is_dataclass(value):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        for name, loaded in _load_dict(fields, saved, path).items():
            setattr(value, name, loaded)
        return value
    if isinstance(value, dict):
        value.update(_load_dict(value, saved, path))
        return value
    if isinstance(value, list | tuple):
        if not isinstance(saved, list) or len(saved) != len(value):
            raise ResumeError(f"the checkpoint's {path} is not a list of {len(value)}")
        pairs = enumerate(zip(value, saved, strict=True))
        items = [_load(v, s, f"{path}.{k}") for k, (v, s) in pairs]
        if isinstance(value, tuple):
            return tuple(items)
        value[:] = items
        return value
    try:
        return _load_leaf(value, saved)
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ResumeError(f"the checkpoint's {path} does not fit: {error}") from error


def _load_dict(value: dict[Any, Any], saved: Any, path: str) -> dict[Any, Any]:
    saved = saved if isinstance(saved, dict) else {}
    if different := sorted(map(str, set(value) ^ set(saved))):
        raise ResumeError(
            f"the checkpoint's {path} and this program differ in {', '.join(different)}; finish the"
            " run with the version of datastill that started it, or choose another --out"
        )
    return {k: _load(v, saved[k], f"{path}.{k}") for k, v in value.items()}


def _load_leaf(value: Any, saved: Any) -> Any:
    if isinstance(value, Tensor):
        if not isinstance(saved, Tensor):
            raise TypeError(f"{saved!r} is no tensor")
        if value.shape != saved.shape or value.dtype != saved.dtype:
            raise ValueError(f"{tuple(saved.shape)} is not {tuple(value.shape)}")
        with torch.no_grad():
            return value.copy_(saved)
    if isinstance(value, Generator):
        value.set_state(saved)
    elif isinstance(value, torch.optim.Optimizer):  # load_state_dict accepts missing parts
        if _structure(value.state_dict()["param_groups"]) != _structure(saved["param_groups"]):
            raise ValueError("it has other optimizer settings")
        if saved.pop("holds") != _structure(saved["state"]):
            raise ValueError("it lacks a part of the optimizer's state")
        value.load_state_dict(saved)
    elif isinstance(value, nn.Module):  # batch norm accepts that its counter is missing
        if missing := sorted(set(value.state_dict()) - set(saved)):
            raise ValueError(f"it lacks {', '.join(missing)}")
        value.load_state_dict(saved)
    else:
        return saved
    return value


def _structure(value: Any) -> Any:
    """Return the keys and lengths of nested dictionaries and lists, without their contents."""
    if isinstance(value, dict):
        return {k: _structure(v) for k, v in value.items()}
    return [_structure(v) for v in value] if isinstance(value, list | tuple) else "value"
