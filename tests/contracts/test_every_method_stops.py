"""The contract of every method with what is not finite: it stops, and nothing good is lost.

The check before updates is `methods/_checked_step.py`; the loop adds phase and step.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_every_method import (
    PLAIN,
    Method,
    every,
    every_plain_method_with_steps,
    run,
    same,
    small,
    solvable,
    steps,
)
from torch import Tensor

from datastill.core.errors import ConfigError, NotFiniteError
from datastill.core.loop import run_steps
from datastill.distill import distill
from datastill.target_model import TargetModel

LEARNING = [m for m in PLAIN if hasattr(m, "outer_lr")]
LEARNING += [replace(m, learn="images-and-labels") for m in LEARNING if hasattr(m, "learn")]
REPRESENTING = [replace(small("krr-st"), bank=bank) for bank in ("off", "lazy")]
BAD = [torch.nan, torch.inf]
AT = 2  # the step in which something becomes NaN or infinite

every_learner = every(bool, LEARNING)
every_bad = pytest.mark.parametrize("bad", BAD)


def spoil_gradients(patch: pytest.MonkeyPatch, state: Any, bad: float) -> None:
    """One value in the gradient of the distilled images is `bad`; the loss is what it was."""

    def spoil(x: Tensor) -> None:
        assert x.grad is not None
        x.grad.view(-1)[0] = bad

    state.x_syn.register_post_accumulate_grad_hook(spoil)  # of methods that call `backward`
    grad = torch.autograd.grad

    def spoilt(outputs: Tensor, inputs: Any, **given: Any) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = grad(outputs, inputs, **given)
        if inputs[0] is state.x_syn:
            found[0].view(-1)[0] = bad
        return found

    patch.setattr(torch.autograd, "grad", spoilt)


def until(method: Method, at: int) -> tuple[Any, Callable[[int], Any]]:
    """A state after `at` steps, and the step that comes."""
    problem = solvable(method)
    state = method.init(problem)
    for _ in range(at):
        method.step(problem, state)
    return state, lambda number: method.step(problem, state)


@every_bad
@every_learner
def test_every_method__bad_gradient_stops_before_the_update(
    method: Method, bad: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, step = until(method, AT)
    before = [x.detach().clone() for x in (state.x_syn, *momenta(state.optimizer))]
    spoil_gradients(monkeypatch, state, bad)
    with pytest.raises(NotFiniteError, match=r"distill, step 0: the gradient of x_syn is not fin"):
        run_steps("distill", state, step, length=1)
    after = [x.detach() for x in (state.x_syn, *momenta(state.optimizer))]
    assert len(before) == len(after) and all(map(torch.equal, before, after))


def momenta(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [x for kept in optimizer.state.values() for x in kept.values() if x is not None]


@every_learner
def test_every_method__bad_gradient_leaves_the_last_checkpoint(
    method: Method, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, kind, taken = distill(method, solvable(method)), type(method), iter(range(100))
    step = kind.step

    def spoiling(self: Method, problem: Any, state: Any) -> Any:
        if next(taken) == AT:
            spoil_gradients(monkeypatch, state, torch.nan)
        return step(self, problem, state)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "step", spoiling)
        with pytest.raises(NotFiniteError, match=f"step {AT}: .*last checkpoint is unharmed"):
            run(method, tmp_path)
    monkeypatch.undo()
    assert same(run(method, tmp_path), whole)


@every_bad
@every_plain_method_with_steps
def test_every_method__bad_metric_stops_and_leaves_the_last_checkpoint(
    method: Method, bad: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = steps(method) - 1
    whole, step, taken = distill(method, solvable(method)), type(method).step, iter(range(100))

    def spoilt(self: Method, problem: Any, state: Any) -> Any:
        found = step(self, problem, state)
        return {**found, "outer_loss": bad} if next(taken) == last else found

    with monkeypatch.context() as patch:
        patch.setattr(type(method), "step", spoilt)
        with pytest.raises(NotFiniteError, match=f"outer_loss is .* at step {last};"):
            run(method, tmp_path)
    assert same(run(method, tmp_path), whole)


@every_bad
@every(bool, REPRESENTING)
def test_krr_st__bad_target_representation_stops_before_the_update(
    method: Method, bad: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = solvable(method)
    state = method.init(problem)
    before = state.x_syn.detach().clone(), state.y_syn.detach().clone()
    represent = TargetModel.represent

    def spoilt(self: TargetModel, x: Tensor) -> Tensor:
        return represent(self, x).index_fill(0, torch.arange(len(x)), bad)

    monkeypatch.setattr(TargetModel, "represent", spoilt)
    with pytest.raises(NotFiniteError, match=r"distill, step 0: .* not finite"):
        run_steps("distill", state, lambda _: method.step(problem, state), length=1)
    assert torch.equal(state.x_syn, before[0]) and torch.equal(state.y_syn, before[1])


@pytest.mark.parametrize("lr", [1e20, 1e30])
@every_learner
def test_every_method__huge_learning_rate_ends_within_three_steps(
    method: Method, lr: float, tmp_path: Path
) -> None:
    wild = replace(method, outer_lr=lr)
    with pytest.raises(NotFiniteError, match=r"distill, step [012]: ") as stopped:
        run(wild, tmp_path)
    assert "x_syn" in str(stopped.value) or "kernel values" in str(stopped.value)
    with pytest.raises(NotFiniteError):  # from the checkpoint, which is not beyond all bounds
        run(wild, tmp_path)


@pytest.mark.parametrize("lr", [1e31, 1e300, torch.inf, torch.nan])
@every_learner
def test_every_method__learning_rate_that_float32_cannot_hold_is_refused(
    method: Method, lr: float
) -> None:
    with pytest.raises(ConfigError, match=r"outer_lr=.*expected above 0 and .* at most 1e\+30"):
        replace(method, outer_lr=lr)
