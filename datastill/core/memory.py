"""How much memory there is for this process.

A limit of the process (RLIMIT_AS, RLIMIT_DATA), a cgroup (containers, SLURM) and the machine itself
may each be the narrowest. What is not known, as on other systems than Linux, does not limit.
"""

import math
from collections.abc import Iterator
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

import torch

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
KIBIBYTE = 2**10
SHARE_OF_FREE = 0.5  # of a device's memory for what is kept there for speed: networks need some too


def available_bytes(device: str = "cpu") -> float:
    """What this process can still have on a device; infinite where nobody says."""
    if device.startswith("cuda"):
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + reserved)
    return max(0.0, min([math.inf, *_limits(), *_cgroups(), *_machine()]))


def fits_in_memory(needed: float, device: str) -> bool:
    """Whether a device can keep so many bytes that could be elsewhere as well."""
    return needed <= SHARE_OF_FREE * available_bytes(device)


def _limits() -> Iterator[float]:
    """Of this process; a limit counts all that is mapped, or all that is written to."""
    pages = _numbers(PROC / "self" / "statm")
    if len(pages) < 6 or not resource:
        return
    page = resource.getpagesize()
    for limit, used in ((resource.RLIMIT_AS, pages[0]), (resource.RLIMIT_DATA, pages[5])):
        soft = resource.getrlimit(limit)[0]
        if soft != resource.RLIM_INFINITY:
            yield soft - used * page


def _machine() -> Iterator[float]:
    """What the machine can give without swapping, and what it can swap."""
    known = _table(PROC / "meminfo")
    if "MemAvailable:" in known:
        yield (known["MemAvailable:"] + known.get("SwapFree:", 0)) * KIBIBYTE


def _cgroups() -> Iterator[float]:
    """Of this process's cgroup and of each one around it, in either version.

    Files that are cached count as used, but those that nobody works on are given up first.
    """
    try:
        lines = (PROC / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers == "":
            yield from _ancestry(CGROUPS, place, ("memory.max", "memory.current", "inactive_file"))
        elif "memory" in controllers.split(","):
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _ancestry(CGROUPS / "memory", place, files)


def _ancestry(root: Path, place: str, names: tuple[str, str, str]) -> Iterator[float]:
    """Limit minus use, where there is a limit; a container sees its own group at the root."""
    limit, use, cached = names
    own = root / place.strip("/")
    for folder in (own, *own.parents):
        if not folder.is_relative_to(root):
            return
        limits, used = _numbers(folder / limit), _numbers(folder / use)
        if limits and used:
            yield limits[0] - used[0] + _table(folder / "memory.stat").get(cached, 0)


def _numbers(file: Path) -> list[int]:
    """The whole numbers in a file; none where there is no such file, or no limit ('max')."""
    try:
        return [int(word) for word in file.read_text(encoding="utf-8").split() if word.isdigit()]
    except OSError:
        return []


def _table(file: Path) -> dict[str, int]:
    """Lines of a name and a number."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines)
    return {words[0]: int(words[1]) for words in pairs if len(words) > 1 and words[1].isdigit()}
