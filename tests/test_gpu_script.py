"""The script for a few minutes on a GPU, at toy size on the CPU."""

import importlib
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "gpu" / "run.sh"

pytestmark = pytest.mark.skipif(
    not SCRIPT.exists(), reason="the benchmarks are in the repository only"
)


def test_gpu_script__runs_a_plan_and_brings_its_rows_home(tmp_path: Path) -> None:
    environment = {
        "WORK": str(tmp_path / "work"),
        "OUT": str(tmp_path / "out"),
        "PACKED": str(tmp_path / "nothing-packed"),  # so that it takes the embedded data
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    command = ["bash", str(SCRIPT), "paper-rows", "90", "--toy"]
    result = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    table = (tmp_path / "out" / "summary.md").read_text()
    assert table in result.stdout
    for part in ("data", "facts", "paper-rows"):
        assert f"| {part} | done |" in table, result.stdout
    assert "| scratch |" in table and "| random-subset |" in table
    with tarfile.open(tmp_path / "out" / "results.tar.gz") as results:
        names = [name for name in results.getnames() if name.endswith("rows.jsonl")]
        files = [results.extractfile(name) for name in names]
        rows = [json.loads(line) for file in files if file is not None for line in file]
    assert [(row["task"], row["seed"]) for row in rows] == [("finetune", s) for s in (0, 0, 1, 1)]


PART = """
import os, pathlib, signal, sys, time
name = sys.argv[1]
(pathlib.Path(os.environ["WORK"]) / f"{name}.summary").write_text(f"{name} so far")
if name == "fails":
    raise SystemExit(3)
if name == "hangs":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if name != "ends":
    time.sleep(60)
"""


def test_gpu_script__a_part_that_fails_or_overruns_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    monkeypatch.setenv("WORK", str(tmp_path))
    run = importlib.import_module("run")
    (tmp_path / "part.py").write_text(PART)
    monkeypatch.setattr(run, "PARTS", tmp_path / "part.py")
    monkeypatch.setattr(run, "GRACE_SECONDS", 1.0)
    monkeypatch.setattr(run, "SHORTEST_SECONDS", 0.5)
    plan = {"fails": 5, "sleeps": 1, "hangs": 1, "ends": run.Share(1)}
    monkeypatch.setitem(run.PLANS, "trial", plan)
    out = tmp_path / "out"
    out.mkdir()
    trial = run.Run("trial", time.monotonic() + 30, tmp_path, out, [])
    trial.run()
    states = {name: (state, summary) for name, state, _, summary in trial.rows}
    assert states == {
        "fails": ("failed (3)", "fails so far"),
        "sleeps": ("stopped: out of time", "sleeps so far"),
        "hangs": ("killed: out of time", "hangs so far"),
        "ends": ("done", "ends so far"),
    }
    assert trial.table() == (out / "summary.md").read_text()
