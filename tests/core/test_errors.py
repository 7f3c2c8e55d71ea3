"""Errors: how the end of memory is recognised."""

import subprocess
import sys

import torch

from datastill.core.errors import is_out_of_memory

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
