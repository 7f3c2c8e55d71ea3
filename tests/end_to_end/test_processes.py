"""Real processes: the tour of a new user, kills and interrupts, full disks, quick help."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from commands import METHOD, NETWORK, TARGET, Command
from reliability import Figures

DATASTILL = (sys.executable, "-W", "error::DeprecationWarning:datastill", "-m", "datastill")
LONG = ("--checkpoint-seconds", "0")  # a checkpoint after every step
DEADLINE_SECONDS = 300.0


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    command = [*DATASTILL, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def started(*words: str | Path, before: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    """A real process with as many threads as the tests: bits hold for one number of threads."""
    command = [*DATASTILL, *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=before,
    )


def wait_for_steps(process: subprocess.Popen[str], folder: Path, steps: int) -> None:
    """Wait until a run has logged so many steps and written a checkpoint."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    metrics = folder / "metrics.jsonl"
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.exists() and len(metrics.read_text().splitlines()) >= steps:
            return
        time.sleep(0.005)
    process.kill()
    pytest.fail(f"no {steps} steps in {folder}: {process.communicate()[1]}")


def test_cli__four_commands_from_a_folder_of_images_to_a_table(
    photos: Path, tmp_path: Path
) -> None:
    data, target, distilled = f"folder:{photos}", tmp_path / "target", tmp_path / "set"
    first = run("target", "--data", data, *TARGET, "--out", target)
    words = ("--data", data, "--target", target, "--count", "5", *METHOD, *NETWORK)
    second = run("distill", *words, "--out", distilled)
    task = ("--pretrain-steps", "3", "--linear-probe.steps", "3", "--seeds", "2")
    third = run("transfer", distilled, "scratch", "--to", data, *task)
    fourth = run("report", tmp_path, "--out", tmp_path / "report", "--format", "csv")
    for done in (first, second, third, fourth):
        assert done.returncode == 0, done.stderr
    assert first.stdout.strip() == str(target / "target.safetensors")
    assert second.stdout.strip() == str(distilled / "distilled.safetensors")
    assert "| krr-st | 5 |" in third.stdout and "| scratch |" in third.stdout
    assert fourth.stdout.startswith("task,network,source,data")
    assert (distilled / "preview.png").exists() and (distilled / "transfer/rows.jsonl").exists()
    assert (tmp_path / "report" / "report.html").exists()


def test_distill__killed_and_resumed_gives_the_same_file(
    datastill: Command, photos: Path, runs: Path, tmp_path: Path
) -> None:
    words: list[str | Path] = ["distill", "--data", f"folder:{photos}", "--target", runs / "target"]
    words += ["--count", "5", *METHOD, "--method.outer_steps", "300", *NETWORK]
    process = started(*words, *LONG, "--out", tmp_path / "killed")
    wait_for_steps(process, tmp_path / "killed", 20)  # inner models were replaced by then
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    resumed = datastill(*words, "--out", tmp_path / "killed", "--resume")
    assert resumed.code == 0 and "distill: continuing after step" in resumed.err
    assert datastill(*words, "--out", tmp_path / "whole").code == 0
    same_files(tmp_path, "distilled.safetensors", "initial.safetensors", "metrics.jsonl")


def same_files(root: Path, *names: str) -> None:
    """The resumed and the unbroken run left the same bytes, and no checkpoints."""
    for name in names:
        assert (root / "killed" / name).read_bytes() == (root / "whole" / name).read_bytes(), name
    left = {file.name for file in (root / "killed").iterdir()}
    assert left == {file.name for file in (root / "whole").iterdir()}


@pytest.mark.parametrize(
    ("number", "code", "times"),
    [
        (signal.SIGINT, 130, 1),
        (signal.SIGTERM, 143, 1),
        pytest.param(signal.SIGINT, 130, 20, marks=pytest.mark.torture),
        pytest.param(signal.SIGTERM, 143, 20, marks=pytest.mark.torture),
    ],
)
def test_cli__stopped_run_ends_in_order_and_resumes_bit_for_bit(
    datastill: Command,
    photos: Path,
    tmp_path: Path,
    figures: Figures,
    number: signal.Signals,
    code: int,
    times: int,
) -> None:
    """With a checkpoint only once an hour: the one that is found was made for the signal."""
    words = ("target", "--data", f"folder:{photos}", *TARGET, "--steps", "1500")
    assert datastill(*words, "--out", tmp_path / "whole").code == 0
    moments, folder = random.Random(0), tmp_path / "killed"
    for _ in range(times):
        process = started(*words, "--checkpoint-seconds", "3600", "--out", folder)
        steps = moments.randrange(1, 1000)
        wait_for_steps(process, folder, steps)
        process.send_signal(number)
        _, err = process.communicate(timeout=DEADLINE_SECONDS)
        assert process.returncode == code and "Traceback" not in err, err
        assert f"{number.name}; saved after step" in err
        assert code == 143 or err.splitlines()[-1].startswith("datastill: interrupted; --resume")
        assert {file.name for file in folder.iterdir()} == {
            "config.yaml",
            "data.json",
            "environment.json",
            "metrics.jsonl",
            "checkpoint-target.safetensors",
        }
        resumed = datastill("target", "--out", folder, "--resume")
        assert resumed.code == 0 and "target: continuing after step" in resumed.err
        same_files(tmp_path, "target.safetensors", "metrics.jsonl")
        shutil.rmtree(folder)
    figures.add(f"{number.name} at random moments", f"{times} of {times} resumed to equal bits")


def test_cli__help_of_the_program_does_not_import_torch() -> None:
    words = [["--help"], ["--version"], []]
    code = (
        "import sys; import datastill; from datastill.cli import main\n"
        f"assert all(main(words) == 0 for words in {words})\n"
        "heavy = {'torch', 'numpy', 'sklearn', 'matplotlib', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_cli__output_that_cannot_be_written_is_no_success() -> None:
    with Path("/dev/full").open("w") as full:
        command = [*DATASTILL, "list", "methods"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert (
        done.stderr == "datastill: error: the output cannot be written: No space left on device\n"
    )


def test_cli__reader_that_leaves_early_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [*DATASTILL, "list"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
