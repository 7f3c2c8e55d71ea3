"""The contract of every file in datastill/objectives."""

import pytest
import torch
from torch import Tensor

from datastill.ground.errors import DataError
from datastill.ground.lookup import find, names
from datastill.ground.options import from_json, options, to_json
from datastill.ground.rng import fork, seeded
from datastill.objectives._base import AbstractObjective

FOLDER = "datastill.objectives"
DIM = 16
every_objective = pytest.mark.parametrize("objective", names(FOLDER), indirect=True)


@pytest.fixture
def objective(request: pytest.FixtureRequest) -> AbstractObjective:
    made = find(FOLDER, request.param)()
    assert isinstance(made, AbstractObjective)
    return made


def two_views(batch: int = 8) -> tuple[Tensor, Tensor]:
    z = torch.randn(2, batch, DIM, generator=fork(0, "views"))
    return z[0], z[0] + 0.1 * z[1]


def projected(objective: AbstractObjective, seed: int = 0) -> tuple[Tensor, Tensor]:
    with seeded(seed, "head"):
        head = objective.head(DIM)
    view_a, view_b = two_views()
    return head(view_a), head(view_b)


@every_objective
def test_every_objective__head_keeps_the_batch(objective: AbstractObjective) -> None:
    z_a, _ = projected(objective)
    assert z_a.ndim == 2 and len(z_a) == 8


@every_objective
def test_every_objective__head_follows_the_seed(objective: AbstractObjective) -> None:
    first, again, other = (projected(objective, seed)[0] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


@every_objective
def test_every_objective__loss_is_a_finite_scalar(objective: AbstractObjective) -> None:
    loss = objective.loss(*projected(objective))
    assert loss.shape == () and loss.isfinite()


@every_objective
def test_every_objective__loss_draws_no_random_numbers(objective: AbstractObjective) -> None:
    views = projected(objective)
    before = torch.get_rng_state()
    assert torch.equal(objective.loss(*views), objective.loss(*views))
    assert torch.equal(torch.get_rng_state(), before)


@every_objective
def test_every_objective__gradient_reaches_both_views(objective: AbstractObjective) -> None:
    z_a, z_b = (z.detach().requires_grad_() for z in projected(objective))
    gradients = torch.autograd.grad(objective.loss(z_a, z_b), [z_a, z_b])
    assert all(g.isfinite().all() and g.abs().sum() > 0 for g in gradients)


@every_objective
def test_every_objective__prefers_views_that_agree(objective: AbstractObjective) -> None:
    z_a, z_b = projected(objective)
    assert objective.loss(z_a, z_a) < objective.loss(z_a, z_b.roll(1, 0))


@every_objective
def test_every_objective__refuses_a_batch_of_one(objective: AbstractObjective) -> None:
    z = torch.zeros(1, 4)
    with pytest.raises(DataError):
        objective.loss(z, z)


@every_objective
def test_every_objective__refuses_views_of_two_sizes(objective: AbstractObjective) -> None:
    with pytest.raises(DataError):
        objective.loss(torch.zeros(4, 3), torch.zeros(5, 3))


@every_objective
def test_every_objective__survives_json(objective: AbstractObjective) -> None:
    assert from_json(type(objective), to_json(objective)) == objective


@every_objective
def test_every_objective__explains_every_option(objective: AbstractObjective) -> None:
    assert all(option.help for option in options(objective))
