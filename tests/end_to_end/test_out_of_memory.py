"""A run whose memory runs out ends with a message and can be resumed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import METHOD, NETWORK, Command, Outcome
from reliability import Figures

from datastill.methods.krr_st import KRRST

AT_ONCE = {  # what is freed goes back to the system, and threads reserve nothing of their own
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_ARENA_MAX": "1",
}

LIMITED = """
import resource, sys
from datastill.cli import main
from datastill.methods.krr_st import KRRST

def limit(room):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + room, resource.RLIM_INFINITY))

def step(self, problem, state, whole=KRRST.step):
    if state.step == {step}:
        limit({room})
    return whole(self, problem, state)

KRRST.step = step
sys.exit(main(sys.argv[1:]))
"""


def limited(words: list[str], *, room: int, step: int) -> Outcome:
    """A command in a process that has so many bytes of room from a step on."""
    script = LIMITED.format(step=step, room=room)
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        env={**os.environ, **AT_ONCE, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        capture_output=True,
        text=True,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def words(photos: Path, runs: Path) -> list[str]:
    """A small distillation."""
    data = ["--data", f"folder:{photos}", "--target", str(runs / "target")]
    return ["distill", *data, "--count", "5", *METHOD, *NETWORK]


def test_distill__that_runs_out_goes_on_bit_for_bit_where_there_is_more(
    datastill: Command, words: list[str], tmp_path: Path, figures: Figures
) -> None:
    """The allocator really fails, in the middle of a step."""
    words = [*words, "--method.outer_batch", "60", "--network.widths", "256,16", "--count", "48"]
    out = [*words, "--checkpoint-seconds", "0", "--out", str(tmp_path / "short")]
    done = limited(out, room=2**20, step=3)
    assert done.code == 2, done.err
    ended = re.search(r"error: distill, step (\d): memory ran out", done.err)
    assert ended and "Traceback" not in done.err, done.err
    step = ended[1]  # 3, or later where the C library still had some
    assert "lower --count or a batch of the method" in done.err
    resumed = datastill(*out, "--resume")
    assert resumed.code == 0 and f"continuing after step {step}" in resumed.err
    assert datastill(*words, "--out", tmp_path / "whole").code == 0
    files = [tmp_path / run / "distilled.safetensors" for run in ("short", "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()
    figures.add(f"memory: ran out in step {step} of 6", "exit code 2; resumed bit-equal")


@pytest.mark.parametrize("name", ["step", "init"])  # within the loop of steps, and outside of it
def test_distill__on_a_full_gpu_says_what_to_lower(
    name: str,
    datastill: Command,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def short(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nAnd so on")

    monkeypatch.setattr(KRRST, name, short)
    done = datastill(*words, "--out", tmp_path / "set")
    assert done.code == 2 and "lower --count" in done.err and "And so on" not in done.err
    assert not (tmp_path / "set" / "distilled.safetensors").exists()
    assert not list((tmp_path / "set").glob("checkpoint*"))
