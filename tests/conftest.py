"""Settings of all tests: one thread, deterministic algorithms, warnings as errors (pyproject)."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _deterministic() -> None:
    torch.set_num_threads(1)  # tensors of tests are tiny: a second thread only waits
    torch.use_deterministic_algorithms(True)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_CACHE", str(tmp_path_factory.mktemp("cache")))
