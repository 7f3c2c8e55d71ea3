"""What ours is timed against computes the same."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from factories import toy_problem

from datastill.methods.krr_st import KRRST
from datastill.target_model import TargetModel

SPEED = Path(__file__).parents[1] / "benchmarks" / "speed"
METHOD = KRRST(outer_steps=40, outer_batch=8, pool_size=2, max_age=50, crop_padding=1)


pytestmark = pytest.mark.skipif(
    not SPEED.is_dir(), reason="the benchmarks are in the repository only"
)


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The scripts can be imported by each test, and are forgotten after it."""
    monkeypatch.syspath_prepend(str(SPEED))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(SPEED) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def test_plain_step__is_ours_written_out() -> None:
    from plain import PlainKRRST

    problem = toy_problem(6)
    known = problem.needed_target
    raw = TargetModel(known.module, known.normalizer, known.image_size)  # not standardized
    problem = replace(problem, target=raw)
    state = METHOD.init(problem)
    plain = PlainKRRST(METHOD, problem, state)
    for _ in range(6):
        ours = METHOD.step(problem, state)["outer_loss"]
        torch.testing.assert_close(ours, plain.step(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(state.x_syn, plain.x, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(state.y_syn, plain.y, rtol=1e-3, atol=1e-4)
    other = replace(METHOD, crop_padding=2)
    assert not torch.allclose(other.step(problem, other.init(problem))["outer_loss"], ours)


def test_regression__says_who_became_slower_than_recorded(tmp_path: Path) -> None:
    from interleaved import Race
    from regression import verdicts

    file, case = tmp_path / "record.csv", {"count": 100, "threads": 2}
    plain, fast = [4.0, 2.0, 3.0], [1.0, 1.0, 1.0]  # ratios of 4, 2 and 3
    Race({"released": [8.0] * 3, "plain": plain, "fast": fast}).append_to(file, case)
    Race({"plain": [9.0], "fast": [0.1]}).append_to(file, {"count": 7, "threads": 2})
    recorded = Race.read(file, case).without("released")
    assert recorded.seconds == {"plain": plain, "fast": fast}
    same, slower = (Race({"plain": [2.0] * 3, "fast": [x, x, 9.0]}) for x in (0.9, 1.1))
    assert verdicts(recorded, same) == {"plain": True, "fast": True}
    assert verdicts(recorded, slower) == {"plain": True, "fast": False}


def test_drawings__show_every_contestant_of_a_record() -> None:
    from drawn import drawings

    found = dict(drawings(SPEED.parent / "records" / "2026-11-23-speed-2core"))
    assert all("ours, bfloat16, warm bank" in found[f"scaling-{x}.svg"] for x in ("count", "size"))
    assert (
        "M 1000, B 1024: plain" in found["outer_step.svg"] and "bank filling" in found["loops.svg"]
    )


def test_roofline__is_the_slowest_of_products_bytes_and_launches() -> None:
    from roofline import Rates

    rates = Rates(bfloat16=1e3, float64=100, bandwidth=1e3, launch=0.1)
    a, b = torch.ones(4, 3).double(), torch.ones(3, 5).double()
    assert rates.least_seconds(lambda: a @ b) == 2 * 60 / 100
    assert rates.least_seconds(lambda: a + 1) == 2 * 8 * 12 / 1e3
    assert rates.least_seconds(lambda: torch.ones(1).half() + 1) == pytest.approx(0.3)
    assert rates.least_seconds(lambda: torch.linalg.cholesky_ex(torch.eye(9).double())) > 9**3 / 300
