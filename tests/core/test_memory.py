"""Memory: how much is available to this process, and how its end is recognised."""

import math
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from datastill.core import memory
from datastill.core.errors import is_out_of_memory
from datastill.core.memory import available_bytes

GIB = 2**30
REALLY_OUT = """
import resource, torch
from datastill.core.errors import is_out_of_memory
from datastill.core.memory import available_bytes
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, resource.RLIM_INFINITY))
assert 2**27 < available_bytes() <= 2**28, available_bytes()
for ask in (lambda: torch.empty(2**30), lambda: bytearray(2**30)):
    try:
        ask()
    except (MemoryError, RuntimeError) as error:
        print(type(error).__name__, is_out_of_memory(error))
"""


def machine_of(
    root: Path, monkeypatch: pytest.MonkeyPatch, *, available: int, cgroup: str = ""
) -> None:
    """A machine with so many bytes that are available, and this process in a cgroup."""
    monkeypatch.setattr(memory, "PROC", root / "proc")
    monkeypatch.setattr(memory, "CGROUPS", root / "cgroup")
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text(cgroup)
    table = f"MemTotal: {4 * available // 1024} kB\nMemAvailable: {available // 1024} kB\n"
    (root / "proc" / "meminfo").write_text(table + "SwapFree: 0 kB\n")


def cgroup_of(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def test_available_bytes__are_those_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_of(tmp_path, monkeypatch, available=3 * GIB)
    assert available_bytes() == 3 * GIB


def test_available_bytes__are_what_a_cgroup_of_version_2_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that are cached and that nobody works on are no use."""
    machine_of(tmp_path, monkeypatch, available=9 * GIB, cgroup="0::/slurm/job\n")
    root = tmp_path / "cgroup"
    limit, use = str(5 * GIB), str(4 * GIB)
    stat = f"anon {3 * GIB}\ninactive_file {GIB}"
    cgroup_of(root / "slurm", memory__max=limit, memory__current=use, memory__stat=stat)
    cgroup_of(root / "slurm" / "job", memory__max="max", memory__current=use)
    assert available_bytes() == 2 * GIB


def test_available_bytes__are_what_a_cgroup_of_version_1_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container the path is that of the host; the files are at the root."""
    lines = "9:cpu,cpuacct:/docker/a\n4:memory:/docker/a\n0::/\n"
    machine_of(tmp_path, monkeypatch, available=9 * GIB, cgroup=lines)
    files = {"memory__limit_in_bytes": str(2 * GIB), "memory__usage_in_bytes": str(GIB)}
    cgroup_of(tmp_path / "cgroup" / "memory", **files, memory__stat="total_inactive_file 0")
    assert available_bytes() == GIB


def test_available_bytes__of_a_full_cgroup_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_of(tmp_path, monkeypatch, available=9 * GIB, cgroup="0::/\n")
    cgroup_of(tmp_path / "cgroup", memory__max=str(GIB), memory__current=str(2 * GIB))
    assert available_bytes() == 0


def test_available_bytes__are_without_limit_where_nobody_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PROC", "CGROUPS"):
        monkeypatch.setattr(memory, name, tmp_path)
    assert available_bytes() == math.inf


def test_available_bytes__of_a_gpu_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What PyTorch has reserved and does not use is free for tensors."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5 * GIB, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1 * GIB)
    assert available_bytes("cuda:1") == 7 * GIB


def test_available_bytes__here_are_less_than_the_machine_has() -> None:
    pages = resource.getpagesize()
    whole = next(x for x in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in x)
    assert pages < available_bytes() < 2 * 1024 * int(whole.split()[1])


def test_exhausted__knows_what_a_real_limit_does() -> None:
    done = subprocess.run(
        [sys.executable, "-c", REALLY_OUT], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["RuntimeError", "True", "MemoryError", "True"], done.stderr


def test_exhausted__knows_the_gpu_and_nothing_else() -> None:
    assert is_out_of_memory(
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    )
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"))
    assert not is_out_of_memory(RuntimeError("shape '[2]' is invalid for input of size 3"))
    assert not is_out_of_memory(ValueError("out of memory"))
