"""The model pool ages as Algorithm 1 says, or as the released code does."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from factories import equal, toy_images, weights
from torch import Tensor, nn

from datastill.core.rng import fork, seeded
from datastill.methods._pool import ModelPool
from datastill.networks.architecture import Architecture, Network
from datastill.ops.optimizers import AdamW, OptimizerSpec, Sgd
from datastill.problem import Problem

SGD = Sgd(0.1, momentum=0.9, weight_decay=1e-3)


@dataclass(frozen=True)
class Flat(Architecture):
    """A linear map of pixels: trained in no time."""

    def build_body(self, image_size: int, channels: int) -> tuple[nn.Module, int]:
        return nn.Flatten(), channels * image_size**2

    def min_size(self) -> int:
        return 1


def new_network(slot: int, generation: int) -> Network:
    with seeded(0, "pool", slot, generation):
        return Flat()(image_size=4, channels=1, outputs=2)


def a_pool(size: int = 1, max_age: int = 3, **changes: Any) -> ModelPool:
    problem = Problem(toy_images(size=4), None, 3, network=Flat())
    arguments = {"outputs": 2, "optimizer": SGD, "loss": F.mse_loss, **changes}
    return ModelPool(problem, networks=[problem.network] * size, max_age=max_age, **arguments)


def pairs() -> tuple[Tensor, Tensor]:
    generator = fork(0, "pairs")
    return torch.randn(3, 1, 4, 4, generator=generator), torch.randn(3, 2, generator=generator)


def ages(pool: ModelPool, visits: int, *, stale: bool = False) -> list[int]:
    result = []
    for _ in range(visits):
        pool.train_or_replace(0, *pairs(), stale=stale)
        result.append(pool.models[0].age)
    return result


def test_model_pool__replaced_model_ages_from_zero() -> None:
    assert ages(a_pool(), 9) == [1, 2, 3, 0, 1, 2, 3, 0, 1]


def test_model_pool__stale_slot_holds_untrained_models_for_ever() -> None:
    assert ages(a_pool(), 7, stale=True) == [1, 2, 3, 0, 0, 0, 0]


def test_model_pool__only_the_visited_model_changes() -> None:
    pool = a_pool(size=2)
    before = [weights(model.network) for model in pool.models]
    assert not equal(*before)
    pool.train_or_replace(1, *pairs())
    assert equal(weights(pool.models[0].network), before[0])
    assert not equal(weights(pool.models[1].network), before[1])


def test_model_pool__each_generation_has_a_seed_of_its_own() -> None:
    pool = a_pool(max_age=1)
    for generation in (1, 2, 3):
        assert pool.models[0].generation == generation
        assert equal(weights(pool.models[0].network), weights(new_network(0, generation)))
        ages(pool, 2)  # it is trained, then replaced


@pytest.mark.parametrize("optimizer", [SGD, AdamW(0.01)], ids=["sgd", "adamw"])
def test_model_pool__replaced_model_learns_as_a_new_one(optimizer: OptimizerSpec) -> None:
    pool, fresh = (a_pool(max_age=2, optimizer=optimizer) for _ in range(2))
    ages(pool, 3)  # it is trained twice, then replaced
    network = fresh.models[0].network
    network.load_state_dict(new_network(0, 2).state_dict())
    for _ in range(3):
        assert equal(weights(pool.models[0].network), weights(network))
        for each in (pool, fresh):
            each.train(0, *pairs())


def test_model_pool__counter_that_starts_ahead_shortens_the_first_life_only() -> None:
    pool = a_pool(max_age=4)
    pool.models[0].reset_counter = 2  # as in FRePo
    assert ages(pool, 9) == [1, 2, 0, 1, 2, 3, 4, 0, 1]
