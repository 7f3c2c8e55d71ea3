"""A profiled step: its parts and operations are written, and its results do not change."""

import json
from pathlib import Path

import torch

from datastill.core.profile import PROFILED_STEP, profile_section, profiled
from datastill.core.run_folder import RunFolder


@profile_section("a product")
def product(a: torch.Tensor) -> torch.Tensor:
    return a @ a


def step(number: int) -> dict[str, torch.Tensor]:
    return {"outer_loss": (product(torch.full((200, 200), number + 1.0)) + 1).sum()}


def opened(folder: Path, *, profile: bool) -> RunFolder:
    return RunFolder.open(folder / "run", {}, resume=False, profile=profile)


def test_profiled__shows_parts_and_operations_of_the_third_step(tmp_path: Path) -> None:
    folder = opened(tmp_path, profile=True)
    wrapped = profiled(step, folder)
    for number in range(7, 7 + PROFILED_STEP):
        assert not (folder.path / "profile.txt").exists()
        assert wrapped(number) == step(number)
    table = (folder.path / "profile.txt").read_text()
    assert f"datastill: step {6 + PROFILED_STEP} " in table
    assert "datastill: a product " in table and "aten::mm " in table
    events = json.loads((folder.path / "profile.json").read_text())["traceEvents"]
    assert "datastill: a product" in {event.get("name") for event in events}


def test_profiled__leaves_steps_alone_where_it_is_not_asked_for(tmp_path: Path) -> None:
    assert profiled(step, None) is step
    assert profiled(step, opened(tmp_path, profile=False)) is step
