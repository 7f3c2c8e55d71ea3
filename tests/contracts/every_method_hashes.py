"""Prints, as JSON, where it runs and the hash of a tiny run of every method."""

import hashlib
import json

import torch
from test_every_method import FOLDER, small, solvable

from datastill.core.lookup import names
from datastill.core.run_folder import environment
from datastill.distill import distill
from datastill.distilled_set import DistilledSet


def environment_key() -> str:
    """Return what the bits of floats depend on, apart from the number of threads."""
    processor = str(environment()["processor"])  # MKL takes other ways on another maker's
    return " ".join([processor, torch.__version__, torch.backends.cpu.get_cpu_capability()])


def hashed(distilled: DistilledSet) -> str:
    """The first 16 digits of the SHA-256 of images and targets."""
    parts = distilled.images, distilled.targets
    return hashlib.sha256(b"".join(x.numpy().tobytes() for x in parts)).hexdigest()[:16]


if __name__ == "__main__":
    hashes = {
        name: hashed(distill(m, solvable(m))) for name in names(FOLDER) for m in [small(name)]
    }
    print(json.dumps({environment_key(): hashes}))
