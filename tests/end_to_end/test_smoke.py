"""Every recipe at smoke scale, whole, by the command: real readers, made images."""

from pathlib import Path

import pytest
from commands import Command

from datastill.core.lookup import names
from datastill.experiments.recipe import get_recipe
from datastill.experiments.stages import stages

NAMES = names("datastill.recipes")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "quick" else pytest.mark.slow) for name in NAMES],
)
def test_every_recipe__smoke_scale_runs_whole(
    name: str, datastill: Command, tmp_path: Path
) -> None:
    done = datastill("run", name, "--scale", "smoke", "--out", tmp_path / "run")
    assert done.code == 0, done.err
    folders = {file.parent for file in (tmp_path / "run" / "rows").rglob("rows.jsonl")}
    expected = {stage for stage in stages(get_recipe(name, "smoke")) if stage.startswith("rows/")}
    assert {str(folder.relative_to(tmp_path / "run")) for folder in folders} == expected
    assert "These numbers mean nothing" in done.out.partition("\n")[0]
    assert not (tmp_path / "run" / "failed.json").exists()
