"""A complete synthetic run, written once."""

from pathlib import Path

import pytest
from synthetic_runs import write_quick

from datastill.report.build import ReportFiles, build


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_quick(tmp_path_factory.mktemp("runs") / "quick")


@pytest.fixture(scope="session")
def report(quick: Path, tmp_path_factory: pytest.TempPathFactory) -> ReportFiles:
    return build([quick], tmp_path_factory.mktemp("report"))
