"""Named random streams from one root seed.

`fork(seed, "batches")` hashes the path of names into a generator. A new stream never changes the
numbers of another one. Code that uses the global generator (module initialisers) runs inside
`seeded(seed, "pool", k)`, which restores the global state afterwards.
"""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Generator

_global_generator_lock = threading.RLock()  # threads share the generator


def derive(seed: int, *path: str | int) -> int:
    """Derive a 63-bit seed for the stream called `path` under the root `seed`."""
    name = "/".join([str(seed), *map(str, path)])
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def fork(seed: int, *path: str | int) -> Generator:
    """Make a CPU generator for the stream called `path` under the root `seed`."""
    return Generator().manual_seed(derive(seed, *path))


@contextmanager
def seeded(seed: int, *path: str | int) -> Iterator[None]:
    """Run code that draws from torch's global CPU generator on a named stream.

    Other threads wait meanwhile, because they would draw from the same generator.
    """
    with _global_generator_lock, torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, *path))
        yield
