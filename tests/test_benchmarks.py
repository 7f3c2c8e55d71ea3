"""What ours is timed against computes the same."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toys import toy_problem

from datastill.methods.krr_st import KRRST
from datastill.target_model import TargetModel

SPEED = Path(__file__).parents[1] / "benchmarks" / "speed"
METHOD = KRRST(outer_steps=40, outer_batch=8, pool_size=2, max_age=50, crop_padding=1)


@pytest.mark.skipif(not SPEED.is_dir(), reason="the benchmarks are in the repository only")
def test_plain_step__is_ours_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SPEED))
    from plain import PlainKRRST

    problem = toy_problem(6)
    known = problem.needed_target
    raw = TargetModel(known.module, known.normalizer, known.image_size)  # not standardized
    problem = replace(problem, target=raw)
    state = METHOD.init(problem)
    state.step = 1  # untrained inner models, which no step replaces
    plain = PlainKRRST(METHOD, problem, state)
    for _ in range(6):
        ours = METHOD.step(problem, state)["outer_loss"]
        torch.testing.assert_close(ours, plain.step(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(state.x_syn, plain.x, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(state.y_syn, plain.y, rtol=1e-3, atol=1e-4)
    other = replace(METHOD, crop_padding=2)
    assert not torch.allclose(other.step(problem, other.init(problem))["outer_loss"], ours)
    sys.modules.pop("plain")
