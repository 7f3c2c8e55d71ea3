"""One root seed, many named random streams.

`fork(seed, "batches")` hashes the path of names into a generator. Adding a consumer with a new
name never shifts another one. Code that insists on the global generator (module
initialisers) runs inside `seeded(seed, "pool", k)`, which restores the global state afterwards.
"""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Generator

_turn = threading.RLock()  # the global generator is one, threads may be many


def derive(seed: int, *path: str | int) -> int:
    """A 63-bit seed for the stream called `path` under the root `seed`."""
    words = "/".join([str(seed), *map(str, path)])
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big") >> 1


def fork(seed: int, *path: str | int) -> Generator:
    """A fresh CPU generator for the stream called `path` under the root `seed`."""
    return Generator().manual_seed(derive(seed, *path))


@contextmanager
def seeded(seed: int, *path: str | int) -> Iterator[None]:
    """Run code that draws from torch's global CPU generator on a named stream.

    One thread at a time: another one waits, for it would draw from this stream.
    """
    with _turn, torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, *path))
        yield
