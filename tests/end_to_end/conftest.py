"""Commands run in this process, a folder of one's own images, and a small run of each kind."""

from pathlib import Path

import pytest
from commands import METHOD, NETWORK, TARGET, Command, Outcome, draw_photos

from datastill.cli import main


@pytest.fixture
def datastill(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `datastill WORDS...` in this process."""

    def run(*words: str | Path) -> Outcome:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 small pictures in three class folders; do not change them."""
    return draw_photos(tmp_path_factory.mktemp("own") / "photos")


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """Run folders `target` and `set`, made from the photos; do not change them."""
    root = tmp_path_factory.mktemp("runs")
    data = ("--data", f"folder:{photos}")
    target, distilled = str(root / "target"), str(root / "set")
    assert main(["target", *data, *TARGET, "--out", target]) == 0
    words = ["distill", *data, "--target", target, "--count", "5", *METHOD, *NETWORK]
    assert main([*words, "--out", distilled]) == 0
    return root
