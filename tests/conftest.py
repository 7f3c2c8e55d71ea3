"""Settings of all tests: one thread, deterministic algorithms, warnings as errors (pyproject)."""

import importlib
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import ranks
import torch
from reliability import Figures
from safetensors.torch import load_file
from torch import Tensor

with suppress(pytest.skip.Exception):  # at the first backward pass autograd asks what devices exist
    importlib.import_module("fake_device")
FIGURES = pytest.StashKey[Figures]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = Figures()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if config.stash[FIGURES].lines:
        terminalreporter.section("reliability")
        terminalreporter.write_line(str(config.stash[FIGURES]))


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """Collect figures of a test, which are printed at the end."""
    return request.config.stash[FIGURES]


@pytest.fixture(autouse=True, scope="session")
def _deterministic() -> None:
    torch.set_num_threads(1)  # tensors of tests are tiny: a second thread only waits
    torch.use_deterministic_algorithms(True)


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """Shells start jobs in the background with SIGINT ignored, and programs inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def two_ranks(two_ranks_folder: Path) -> list[dict[str, Tensor]]:
    """Return the tensors of two gloo processes, each with half of the batch."""
    return [load_file(two_ranks_folder / f"rank-{rank}.safetensors") for rank in range(2)]


@pytest.fixture(scope="session")
def two_ranks_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which two gloo processes wrote their results."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, ranks.__file__, str(folder)],
            env={**os.environ, **address, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    return folder
