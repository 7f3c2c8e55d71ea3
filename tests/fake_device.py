"""A fake device backed by the CPU, which finds what would fail or wait on a GPU.

Its tensors are in main memory, and operations on them give the bits of the CPU. As on a GPU, they
cannot be mixed with tensors of the host, only copied, and whatever makes the host wait is counted.
It is a backend of PyTorch (`PrivateUse1`), so that autograd, modules and optimizers work as usual.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

try:
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend
except ImportError:
    pytest.skip("this torch has no devices written in Python", allow_module_level=True)

if torch.cuda.is_available():
    pytest.skip("there is a GPU, for tests/test_cuda.py", allow_module_level=True)

NAME = "second"
_setup_privateuseone_for_python_backend(NAME)
DEVICE = torch.device(NAME, 0)

ATEN = torch.ops.aten
COPIES = (ATEN.copy_, ATEN._to_copy)
INDEXING = (ATEN.index, ATEN.index_put, ATEN.index_put_, ATEN._index_put_impl_)
WAITING = (  # the size of what they give is in the values: the host must read them
    ATEN._local_scalar_dense,
    ATEN.equal,
    ATEN.nonzero,
    ATEN.masked_select,
    ATEN._unique2,
    ATEN.bincount,
)
traffic = Counter[str]()  # since it was cleared


class FakeTensor(Tensor):
    """A tensor of the fake device; `host` holds its values."""

    host: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, host: Tensor) -> "FakeTensor":
        wrapper = Tensor._make_wrapper_subclass(
            cls,
            host.size(),
            strides=host.stride(),
            storage_offset=host.storage_offset(),
            dtype=host.dtype,
            device=DEVICE,
        )
        wrapper.host = host
        return wrapper

    def __deepcopy__(self, memo: Any) -> Tensor:
        return self.detach().clone()  # as on any device; else `host` is copied behind its back

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _done(func, args, kwargs or {})


class _Watching(TorchDispatchMode):
    """Sees operations that make tensors there out of none."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        wanted = _is_fake(kwargs.get("device"))
        if wanted or any(isinstance(x, FakeTensor) for x in tree_leaves((args, kwargs))):
            return _done(func, args, kwargs)
        return func(*args, **kwargs)


@contextmanager
def fake_device() -> Iterator[Counter[str]]:
    """Inside, `torch.device("second")` can be used; gives the counts of what the host waits for.

    `reads`: values that came to the host; `writes`: values that went there in a copy that is not
    `non_blocking`; `operations`: all that was done there.
    """
    traffic.clear()
    with _Watching():
        yield traffic


def _done(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    device = kwargs.get("device")
    if func.overloadpacket in COPIES:
        _note_copy(func, args, kwargs)
    else:
        _refuse_mixture(func, args, kwargs)
    traffic["operations"] += 1
    if func.overloadpacket in WAITING:
        traffic["reads"] += 1
    host_kwargs = {**kwargs, "device": torch.device("cpu")} if device is not None else kwargs
    out = func(*tree_map(_on_host, args), **tree_map(_on_host, host_kwargs))
    wrappers = {id(x.host): x for x in tree_leaves((args, kwargs)) if isinstance(x, FakeTensor)}
    if not (wrappers if device is None else _is_fake(device)):
        return out
    return tree_map(
        lambda x: wrappers.get(id(x), FakeTensor(x)) if isinstance(x, Tensor) else x, out
    )


def _note_copy(func: Any, args: Any, kwargs: dict[str, Any]) -> None:
    if func.overloadpacket is ATEN.copy_:
        to, source = args[0].device, args[1].device
        asynchronous = (*args[2:], kwargs.get("non_blocking", False))[0]
    else:
        to, source = torch.device(kwargs.get("device") or args[0].device), args[0].device
        asynchronous = kwargs.get("non_blocking", False)
    if to.type == "cpu" != source.type:
        traffic["reads"] += 1
    if source.type == "cpu" != to.type and not asynchronous:
        traffic["writes"] += 1


def _refuse_mixture(func: Any, args: Any, kwargs: dict[str, Any]) -> None:
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    on_host = [x for x in tensors if not isinstance(x, FakeTensor) and x.dim() > 0]
    indexing = func.overloadpacket in INDEXING
    if indexing and any(x.dtype == torch.bool for x in tree_leaves(args[1:2])):
        traffic["reads"] += 1  # how many are meant
    if not on_host or len(on_host) == len(tensors):
        return
    if not indexing or not isinstance(args[0], FakeTensor):
        raise RuntimeError(f"{func} was given tensors of the host and of the fake device")
    for _ in on_host:  # an index is copied there
        traffic["writes"] += 1


def _on_host(x: Any) -> Any:
    return x.host if isinstance(x, FakeTensor) else x


def _is_fake(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


# What PyTorch calls below Python: `torch.tensor(..., device="second")` makes its tensor there.

_kernels = torch.library.Library("aten", "IMPL")


def _empty(size: Any, dtype: Any = None, *_: Any, **__: Any) -> Tensor:
    return FakeTensor(torch.empty(size, dtype=dtype))


def _empty_strided(size: Any, stride: Any, dtype: Any = None, *_: Any, **__: Any) -> Tensor:
    return FakeTensor(torch.empty_strided(size, stride, dtype=dtype))


def _copy_from(source: Tensor, to: Tensor, non_blocking: bool = False) -> Tensor:
    if isinstance(to, FakeTensor) != isinstance(source, FakeTensor):
        traffic["writes" if isinstance(to, FakeTensor) else "reads"] += 1
    _on_host(to).copy_(_on_host(source))
    return to


_kernels.impl("empty.memory_format", _empty, "PrivateUse1")
_kernels.impl("empty_strided", _empty_strided, "PrivateUse1")
_kernels.impl("_copy_from", _copy_from, "PrivateUse1")
