"""The contract of every method with bits: the same tomorrow, in any process, watched or not.

Golden hashes are kept by processor, torch version and instruction set, for floats differ between
them. Where none are kept for a machine, or a method is meant to give other bits, add them from the
root with OMP_NUM_THREADS=1 PYTHONPATH=.:tests python tests/contracts/every_method_hashes.py, whose
line goes into golden/hashes.json.
"""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from every_method_hashes import environment_key
from test_every_method import FOLDER, Method, every_plain_method, same, solvable

from datastill.core import progress
from datastill.core.lookup import names
from datastill.core.run_folder import RunFolder
from datastill.distill import Probe, distill
from datastill.pretrain import Pretraining
from datastill.transfer.held_out import HeldOut

GOLDEN = Path(__file__).parent / "golden" / "hashes.json"
SCRIPT = Path(__file__).parent / "every_method_hashes.py"


@cache
def hashes(hash_seed: str) -> dict[str, str]:
    """The hash of every method in a fresh process of one thread."""
    tests = SCRIPT.parent.parent
    folders = os.pathsep.join([str(tests.parent), str(tests)])
    environment = {"PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1", "PYTHONPATH": folders}
    command = [sys.executable, str(SCRIPT)]
    ran = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=True
    )
    by_environment: dict[str, dict[str, str]] = json.loads(ran.stdout)
    return by_environment[environment_key()]


def test_every_method__gives_the_golden_bits() -> None:
    golden: dict[str, Any] = json.loads(GOLDEN.read_text())
    if environment_key() not in golden:
        pytest.skip(f"no golden hashes for {environment_key()}; the docstring says how to add them")
    assert hashes("1") == golden[environment_key()]


def test_every_method__gives_the_same_bits_in_every_process() -> None:
    assert hashes("1") == hashes("2") and set(hashes("1")) == set(names(FOLDER))


@every_plain_method
def test_every_method__is_not_changed_by_being_saved_watched_and_asked(
    method: Method, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    single = distill(method, solvable(method))
    for pause in ("FIRST_LINE_SECONDS", "LONGEST_PAUSE_SECONDS"):
        monkeypatch.setattr(progress, pause, 0.0)  # a line, and so a flush, at every step
    folder = RunFolder.open(tmp_path, method.identity(), resume=True, checkpoint_seconds=0.0)
    problem = solvable(method)
    held_out, short = HeldOut(problem.images, problem.needed_target), Pretraining(steps=1)
    represents = single.target_kind == "representation"  # that the probe needs
    probe = Probe(held_out, every_steps=1, pretraining=short) if represents else None
    assert same(distill(method, problem, folder=folder, probe=probe), single)
