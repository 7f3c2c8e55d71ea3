"""Memory: what fits on a GPU, and how the end of memory is recognised."""

import subprocess
import sys

import pytest
import torch

from datastill.core.errors import is_out_of_memory
from datastill.core.memory import fits_in_memory

GIB = 2**30
REALLY_OUT = """
import resource, torch
from datastill.core.errors import is_out_of_memory
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, resource.RLIM_INFINITY))
for allocate in (lambda: torch.empty(2**30), lambda: bytearray(2**30)):
    try:
        allocate()
    except (MemoryError, RuntimeError) as error:
        print(type(error).__name__, is_out_of_memory(error))
"""


def test_fits_in_memory__counts_what_pytorch_reserved_and_does_not_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5 * GIB, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1 * GIB)
    assert fits_in_memory(3.5 * GIB, "cuda:1") and not fits_in_memory(3.5 * GIB + 1, "cuda:1")
    assert fits_in_memory(100 * GIB, "cpu")


def test_is_out_of_memory__of_a_real_limit() -> None:
    process = subprocess.run(
        [sys.executable, "-c", REALLY_OUT], capture_output=True, text=True, check=False
    )
    output = process.stdout.split()
    assert output == ["RuntimeError", "True", "MemoryError", "True"], process.stderr


def test_is_out_of_memory__of_a_gpu_and_nothing_else() -> None:
    out_of_memory = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    assert is_out_of_memory(out_of_memory)
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"))
    assert not is_out_of_memory(RuntimeError("shape '[2]' is invalid for input of size 3"))
    assert not is_out_of_memory(ValueError("out of memory"))
