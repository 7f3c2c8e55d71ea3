"""Schedules against torch's own schedulers, and at their ends."""

import pytest
import torch
from torch.optim import lr_scheduler

from datastill.core.errors import ConfigError
from datastill.ops.optimizers import Sgd
from datastill.ops.schedules import Constant, Cosine, HalfDrop, Linear, Schedule, set_learning_rates

LENGTH = 20
EVERY = [Constant(), Cosine(), Cosine(warmup_steps=5), Linear(), HalfDrop()]


def torch_factors(make: type, **options: object) -> list[float]:
    """The rates that a scheduler of torch gives to an optimizer of rate one."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer, **options)
    rates = []
    for _ in range(LENGTH):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("schedule", "make", "options"),
    [
        (Cosine(), lr_scheduler.CosineAnnealingLR, {"T_max": LENGTH}),
        (Cosine(end=0.1), lr_scheduler.CosineAnnealingLR, {"T_max": LENGTH, "eta_min": 0.1}),
        (
            Linear(),
            lr_scheduler.LinearLR,
            {"start_factor": 1.0, "end_factor": 1e-3, "total_iters": LENGTH},
        ),
        (HalfDrop(), lr_scheduler.MultiStepLR, {"milestones": [LENGTH // 2], "gamma": 0.1}),
        (Constant(), lr_scheduler.ConstantLR, {"factor": 1.0}),
    ],
)
def test_schedule__equals_torch(schedule: Schedule, make: type, options: dict[str, object]) -> None:
    ours = [schedule.factor(step, LENGTH) for step in range(LENGTH)]
    assert ours == pytest.approx(torch_factors(make, **options), abs=1e-12)


def test_cosine__warm_up_rises_from_zero_and_joins_the_cosine() -> None:
    schedule = Cosine(warmup_steps=4)
    factors = [schedule.factor(step, 12) for step in range(12)]
    assert factors[:5] == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert factors[4:] == pytest.approx([Cosine().factor(step, 8) for step in range(8)])


def test_cosine__too_long_warm_up_says_what_to_change() -> None:
    with pytest.raises(ConfigError, match="lower warmup_steps"):
        Cosine(warmup_steps=500).factor(0, 500)


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
@pytest.mark.parametrize("step", [-1, LENGTH + 1])
def test_schedule__refuses_steps_outside(schedule: Schedule, step: int) -> None:
    with pytest.raises(ConfigError, match="outside"):
        schedule.factor(step, LENGTH)


def test_set_learning_rates__scales_every_group_from_its_own_rate() -> None:
    weights = [torch.zeros(2, requires_grad=True) for _ in range(2)]
    optimizer = Sgd(lr=0.2).make([{"params": weights[:1]}, {"params": weights[1:], "lr": 0.04}])
    for step in (0, 7, 3):  # in any order: the result depends on the step alone
        set_learning_rates(optimizer, Linear(), step, 10)
    rates = [group["lr"] for group in optimizer.param_groups]
    factor = 1 - 0.999 * 0.3
    assert rates == pytest.approx([0.2 * factor, 0.04 * factor])
