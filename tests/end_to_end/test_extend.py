"""The example of docs/extend.md, added as a new user would add it: as one more file."""

import re
from pathlib import Path

import pytest
import torch
from commands import NETWORK, Command
from toys import KilledError, killed_at, toy_problem

import datastill.methods
from datastill.artefact import DistilledSet
from datastill.distill import distill
from datastill.ground.lookup import find, names
from datastill.ground.run_folder import RunFolder

PAGE = Path(__file__).parents[2] / "docs" / "extend.md"


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that belongs to datastill.methods too, with the page's file in it."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "k_center.py").write_text(code, encoding="utf-8")
    paths = [*datastill.methods.__path__, str(tmp_path / "more")]
    monkeypatch.setattr(datastill.methods, "__path__", paths)


@pytest.mark.usefixtures("added")
def test_extend__example_runs_from_the_command_line(
    datastill: Command, photos: Path, made: Path, tmp_path: Path
) -> None:
    assert "k-center" in names("datastill.methods")
    words = ["distill", "--data", f"folder:{photos}", "--target", made / "target", "--count", "7"]
    done = datastill(*words, "--method", "k-center", *NETWORK, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    distilled = DistilledSet.load(tmp_path / "run")
    assert len(distilled) == 7 and distilled.method == "k-center"
    assert len({x.numpy().tobytes() for x in distilled.images}) == 7


@pytest.mark.usefixtures("added")
def test_extend__example_takes_the_farthest_image_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = find("datastill.methods", "k-center")
    problem = toy_problem(6)
    whole = distill(kind(), problem)
    x = problem.represent(torch.arange(24))
    g = whole.targets
    for t in range(1, 6):  # no image was farther from the first t than the next one
        reach = torch.cdist(x, g[:t]).min(1).values.max()
        assert torch.cdist(g[t : t + 1], g[:t]).min() == pytest.approx(float(reach), rel=1e-4)
    folder = RunFolder.open(tmp_path / "run", {}, resume=False, checkpoint_seconds=0.0)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(kind, "step", killed_at(3, kind.step))
        distill(kind(), problem, folder=folder)
    assert torch.equal(distill(kind(), problem, folder=folder).images, whole.images)
