"""Real torchrun: many ranks against one, ranks that die, restarts, another number of ranks."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import METHOD, NETWORK, Command
from reliability import Figures
from test_processes import DEADLINE_SECONDS, wait_for_steps

from datastill.distilled_set import DistilledSet

MINUTE = 60.0
LONG = (
    *(*METHOD, "--method.outer_steps", "500", *NETWORK, "--precision", "float32"),
    *("--checkpoint-seconds", "0.2"),  # last: tests replace it
)


@dataclass(frozen=True)
class Job:
    """A running torchrun and the folder that it works in."""

    process: subprocess.Popen[str]
    out: Path

    def kill(self, rank: int) -> float:
        """Kill -9 one of its processes once there is a checkpoint; returns when."""
        while not (self.out / "checkpoint-distill.safetensors").exists():
            time.sleep(0.01)
        os.kill(self.ranks()[rank], signal.SIGKILL)
        return time.monotonic()

    def ranks(self) -> list[int]:
        """The process ids of the ranks, in order."""
        pids = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "environ").read_bytes().split(b"\0")
                environment = dict(word.partition(b"=")[::2] for word in words)
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # it has ended, or is another user's
            if parent == self.process.pid and b"RANK" in environment:
                pids[int(environment[b"RANK"])] = int(entry.name)
        return [pids[rank] for rank in sorted(pids)]

    def ended(self, seconds: float = DEADLINE_SECONDS) -> tuple[int, str]:
        """(exit code, stderr)."""
        _, stderr = self.process.communicate(timeout=seconds)
        return self.process.returncode, stderr


def started(verb: str, *words: str | Path, ranks: int = 2, options: Sequence[str] = ()) -> Job:
    """`torchrun ... -m datastill VERB ...`; --out is the last word."""
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks))
    command = [sys.executable, *launch, *options, "-m", "datastill", verb, *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, env=environment, text=True, **pipes)
    return Job(process, Path(words[-1]))


@pytest.fixture
def words(photos: Path, runs: Path) -> list[str | Path]:
    """What to distil."""
    return ["--data", f"folder:{photos}", "--target", runs / "target", "--count", "5"]


def largest_difference(one: Path, other: Path) -> float:
    a, b = (DistilledSet.load(path) for path in (one, other))
    pairs = ((a.images, b.images), (a.targets, b.targets))
    return max(float((x - y).abs().max()) for x, y in pairs)


def files(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_torchrun__distills_as_one_process_does(
    datastill: Command, words: list[str | Path], tmp_path: Path
) -> None:
    """In single precision sums of shares are the sum but for their last digits."""
    words += [*METHOD, *NETWORK, "--precision", "float32"]
    code, stderr = started("distill", *words, "--out", tmp_path / "two").ended()
    assert code == 0, stderr
    assert stderr.count("distilled images, ") == 1  # only one rank prints
    assert datastill("distill", *words, "--out", tmp_path / "one").code == 0
    assert files(tmp_path / "two") == files(tmp_path / "one")
    assert largest_difference(tmp_path / "two", tmp_path / "one") < 1e-4
    environment = json.loads((tmp_path / "two" / "environment.json").read_text())
    assert environment["ranks"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
def test_torchrun__rows_are_those_of_one_process_in_the_same_order(
    datastill: Command, photos: Path, runs: Path, tmp_path: Path, ranks: int
) -> None:
    words = [runs / "set", "scratch", "--to", f"folder:{photos}", "--pretrain-steps", "3"]
    words += ["--linear-probe.steps", "3", "--seeds", "2"]
    code, stderr = started("transfer", *words, "--out", tmp_path / "two", ranks=ranks).ended()
    assert code == 0, stderr
    assert datastill("transfer", *words, "--out", tmp_path / "one").code == 0
    one, two = (rows(tmp_path / name) for name in ("one", "two"))
    assert len(one) == 4 and one == two
    assert files(tmp_path / "two") == files(tmp_path / "one")


def rows(folder: Path) -> list[dict[str, object]]:
    """Rows without their time and memory."""
    lines = (folder / "rows.jsonl").read_text().splitlines()
    took = ("wall_seconds", "peak_memory_bytes", "pretrain_seconds")
    return [{k: v for k, v in json.loads(line).items() if k not in took} for line in lines]


@pytest.mark.torture
@pytest.mark.parametrize("dying", [0, 1])
def test_torchrun__dead_rank_ends_the_job_with_a_message(
    dying: int, words: list[str | Path], tmp_path: Path, figures: Figures
) -> None:
    job = started("distill", *words, *LONG, "--out", tmp_path / "run")
    wait_for_steps(job.process, job.out, 20)
    killed = job.kill(dying)
    code, stderr = job.ended(MINUTE)
    figures.add(
        f"rank {dying} of 2 killed", f"the job ended {time.monotonic() - killed:.1f} s later"
    )
    assert code == 1
    assert f"rank {1 - dying} of 2: another rank has died" in stderr
    assert not (tmp_path / "run" / "distilled.safetensors").exists()


@pytest.mark.torture
def test_torchrun__elastic_restart_continues_from_the_checkpoint(
    datastill: Command, words: list[str | Path], tmp_path: Path, figures: Figures
) -> None:
    """With --resume from the first start on: a new folder has nothing to continue."""
    options, out = ("--max-restarts", "1"), tmp_path / "run"
    job = started("distill", *words, *LONG, "--resume", "--out", out, options=options)
    wait_for_steps(job.process, job.out, 20)
    job.kill(1)
    code, stderr = job.ended()
    assert code == 0, stderr
    (line,) = (line for line in stderr.splitlines() if "continuing after step" in line)
    figures.add("elastic restart", line)
    assert datastill("distill", *words, *LONG, "--out", tmp_path / "whole").code == 0
    assert largest_difference(out, tmp_path / "whole") < 1e-2
    assert files(out) == files(tmp_path / "whole")


@pytest.mark.torture
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_torchrun__stopped_ranks_resume_bit_for_bit(
    number: signal.Signals, words: list[str | Path], tmp_path: Path
) -> None:
    """A checkpoint only once an hour: the one that is found was made for the signal."""
    words = [*words, *LONG[:-1], "3600"]
    out, whole = tmp_path / "run", tmp_path / "whole"
    stop(started("distill", *words, "--out", out), number)
    code, stderr = started("distill", *words, "--resume", "--out", out).ended()
    assert code == 0 and "continuing after step" in stderr, stderr
    assert started("distill", *words, "--out", whole).ended()[0] == 0
    for name in ("distilled.safetensors", "metrics.jsonl"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.torture
def test_torchrun__goes_on_as_another_number_of_ranks(
    datastill: Command, words: list[str | Path], tmp_path: Path, figures: Figures
) -> None:
    """Two ranks, then three, then one process, against one process from start to end."""
    words = [*words, *LONG[:-1], "3600"]
    out, whole = tmp_path / "run", tmp_path / "whole"
    stop(started("distill", *words, "--out", out), signal.SIGTERM)
    stderr = stop(started("distill", *words, "--resume", "--out", out, ranks=3), signal.SIGTERM)
    assert "ranks: 2, now 3" in stderr and "it goes on, but not bit for bit" in stderr
    single = datastill("distill", *words, "--resume", "--out", out)
    assert single.code == 0 and "continuing after step" in single.err
    assert datastill("distill", *words, "--out", whole).code == 0
    difference = largest_difference(out, whole)
    figures.add("2 ranks, then 3, then 1", f"differ from one process by {difference:.1e} at most")
    assert difference < 1e-2


def stop(job: Job, number: signal.Signals) -> str:
    """End a job by a signal to torchrun, once it has come a little further; return its stderr."""
    log = job.out / "metrics.jsonl"
    before = len(log.read_text().splitlines()) if log.exists() else 0
    wait_for_steps(job.process, job.out, before + 100)
    job.process.send_signal(number)
    code, stderr = job.ended()
    assert code != 0 and stderr.count(f"{number.name}; saved after step") == 1, stderr
    return stderr
