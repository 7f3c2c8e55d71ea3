"""What is chosen for a budget of bytes."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from factories import NETWORK, killed, toy_target

from datastill import choose_form as module
from datastill.choose_form import choose_form, smallest_count
from datastill.core.errors import ConfigError, NotFiniteError
from datastill.core.run_folder import RunFolder
from datastill.data.source import source
from datastill.distill import distill
from datastill.distilled_set import DistilledSet
from datastill.methods.dm import DM
from datastill.methods.frepo import FRePo
from datastill.methods.label_solve import LabelSolve
from datastill.methods.method import Method
from datastill.methods.random_subset import RandomSubset
from datastill.problem import Problem
from datastill.stored_form.compression import Compression

SOLVE = LabelSolve(inner_models=1, max_age=2, real_images=60, real_batch=60)
LABELS = RandomSubset("class-label", balanced=True)
BUDGET = Compression(bytes=8000, codec="webp")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UPDATES", 3)


def made_problem(method: Method[Any], compression: Compression = BUDGET) -> Problem:
    images = source("digits").load("train").limit(400, seed=0)
    target = toy_target(images, outputs=40) if method.needs_target else None
    count = smallest_count(method, images)
    problem = Problem(images, target, count, network=NETWORK, compression=compression)
    method.check(problem)
    return problem


@pytest.mark.parametrize("method", [RandomSubset(), SOLVE, LABELS], ids=lambda m: type(m).__name__)
def test_choice__is_the_best_row_and_fills_the_bytes(method: Method[Any]) -> None:
    chosen = choose_form(method, made_problem(method))
    table = chosen.choice
    assert table is not None and table["quality"] == [30, 50, 70] * (len(table["quality"]) // 3)
    assert all(low > high for low, high in zip(table["count"], table["count"][1:3], strict=False))
    distilled = distill(method, chosen)
    assert 0.97 * 8000 <= distilled.num_bytes <= 8000
    assert distilled.provenance["choice"] == table and distilled.stored is not None
    scores = table["accuracy" if method is LABELS else "r2"]
    best = scores.index(max(scores))
    assert abs(chosen.count / table["count"][best] - 1) < 0.2
    if method is LABELS:
        assert distilled.targets.bincount().unique().numel() == 1
        return
    assert table["components"] == [16] * 3 + [32] * 3 + [40] * 3
    assert distilled.outputs == table["components"][best]
    assert abs(distilled.stored.form["quality"] - table["quality"][best]) <= 3


@pytest.mark.parametrize("diverging", [1, 3])
def test_choice__leaves_out_forms_whose_training_diverges(diverging: int) -> None:
    pretrain, calls = module.pretrain, itertools.count()

    def diverge(*args: Any, **options: Any) -> Any:
        if next(calls) < diverging:
            raise NotFiniteError("the loss is nan")
        return pretrain(*args, **options)

    with patch.object(module, "pretrain", diverge):
        if diverging == 3:
            with pytest.raises(NotFiniteError, match="give --count"):
                choose_form(LABELS, made_problem(LABELS))
            return
        chosen = choose_form(LABELS, made_problem(LABELS))
    assert chosen.choice is not None and chosen.choice["accuracy"][0] is None
    assert len(chosen.choice["accuracy"]) == 3


def test_choice__resumes_where_it_was_killed(tmp_path: Path) -> None:
    def choose(name: str) -> Problem:
        folder = RunFolder.open(tmp_path / name, {}, resume=True, checkpoint_seconds=0.0)
        return choose_form(SOLVE, made_problem(SOLVE), folder=folder)

    whole = choose("whole")
    with killed(module._Search, "score", 4):
        choose("killed")
    with patch.object(
        module._Search, "score", autospec=True, side_effect=module._Search.score
    ) as s:
        assert choose("killed").identity == whole.identity
        assert s.call_count == 5
        assert choose("killed").identity == whole.identity  # from the checkpoint
        assert s.call_count == 5
    assert (tmp_path / "killed" / "phases.jsonl").read_text().count('"choose"') == 1


@pytest.mark.parametrize(
    ("given", "count", "searched"),
    [
        ({"quality": 40}, None, ["quality", "components", "count", "r2"]),
        ({"components": 8}, None, ["quality", "components", "count", "r2"]),
        ({"targets": "float16"}, None, ["quality", "count", "r2"]),
        ({"codec": "png"}, None, ["components", "count", "r2"]),
        ({}, 40, ["quality", "components", "count", "r2"]),
        ({"components": 8}, 40, None),
        ({"quality": 40, "components": 8}, 40, None),
        ({"bytes": None, "quality": 40}, None, None),
    ],
    ids=str,
)
def test_choice__keeps_what_is_given(
    given: dict[str, Any], count: int | None, searched: list[str] | None
) -> None:
    method = RandomSubset()
    problem = made_problem(method, replace(BUDGET, **given))
    problem = replace(problem, count=count or problem.count)
    chosen = choose_form(method, problem, count=count)
    assert (chosen is problem) == (searched is None)
    if chosen.choice is None:
        return
    assert list(chosen.choice) == searched
    for name, value in {**given, **({"count": count} if count else {})}.items():
        assert set(chosen.choice.get(name, [value])) == {value}
    distilled = distill(method, chosen)
    assert distilled.num_bytes <= 8000 and len(distilled) == chosen.count
    assert count is None or len(distilled) == count


@pytest.mark.parametrize("method", [DM(outer_steps=1), FRePo(zca=False, outer_steps=1)], ids=str)
def test_choice__learned_images_take_the_best_quality_that_fits(method: Method[Any]) -> None:
    chosen = choose_form(method, made_problem(method))
    assert chosen.count % 10 == 0 and chosen.choice is not None
    with patch.object(type(method), "length", lambda *_: 0):
        distilled = distill(method, chosen)
    assert isinstance(distilled, DistilledSet) and distilled.num_bytes <= 8000


def test_choice__budget_below_the_smallest_file_is_refused() -> None:
    message = r"a budget of 500 bytes is below the smallest file of these 1 images, [\d,]+ bytes"
    with pytest.raises(ConfigError, match=message):
        made_problem(RandomSubset(), replace(BUDGET, bytes=500))
