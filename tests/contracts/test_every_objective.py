"""The contract of every file in datastill/objectives."""

from dataclasses import replace

import pytest
import torch
from ranks import FOLDER, labels, modules, small, train, two_views
from torch import Tensor

from datastill.core.errors import DataError
from datastill.core.lookup import find, names
from datastill.core.options import from_json, options, to_json
from datastill.core.ranks import Ranks
from datastill.objectives.objective import Objective, Views

every_objective = pytest.mark.parametrize("name", names(FOLDER))
RankOutputs = list[dict[str, Tensor]]  # of the fixture in conftest.py


def views(pixels: Tensor | None = None) -> Views:
    pixels = two_views() if pixels is None else pixels
    return Views(pixels.flatten(0, 1), labels(pixels.shape[1]))


def loss(objective: Objective, seen: Views, seed: int = 0) -> Tensor:
    network, heads = modules(objective, seed)
    return objective.loss(heads, network, seen)


@every_objective
def test_every_objective__heads_follow_the_seed(name: str) -> None:
    first, again, other = (loss(small(name), views(), seed) for seed in (0, 0, 1))
    assert first.shape == () and first.isfinite()
    assert torch.equal(first, again) and not torch.equal(first, other)


@every_objective
def test_every_objective__loss_draws_no_random_numbers_and_changes_no_weights(name: str) -> None:
    network, heads = modules(objective := small(name))
    before, state = [*network.parameters(), *heads.parameters()], torch.get_rng_state()
    kept = [p.detach().clone() for p in before]
    once, twice = (objective.loss(heads, network, views()) for _ in range(2))
    assert torch.equal(once, twice) and torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, before, kept))


@every_objective
def test_every_objective__gradient_reaches_both_views_and_whatever_is_trained(name: str) -> None:
    network, heads = modules(objective := small(name))
    pixels = two_views().requires_grad_()
    objective.loss(heads, network, views(pixels)).backward()
    assert pixels.grad is not None and pixels.grad.isfinite().all()
    assert (pixels.grad.abs().sum((1, 2, 3, 4)) > 0).all()
    trained = [p for m in (network, heads) for p in m.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)


@every_objective
def test_every_objective__trained_weights_follow_the_optimizer_alone(name: str) -> None:
    network, heads = modules(objective := small(name))
    trained = [p for m in (network, heads) for p in m.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in trained]
    objective.after_step(heads, network, progress=0.5)
    assert all(map(torch.equal, trained, before))


@every_objective
def test_every_objective__ignores_the_order_of_images_and_views(name: str) -> None:
    expected = loss(small(name), views())
    order = torch.randperm(len(labels()), generator=torch.Generator().manual_seed(0))
    moved = replace(views(two_views()[:, order]), labels=labels()[order])
    torch.testing.assert_close(loss(small(name), moved), expected)
    torch.testing.assert_close(loss(small(name), views(two_views().flip(0))), expected)


@every_objective
def test_every_objective__uses_labels_only_if_it_needs_them(name: str) -> None:
    objective, blind = small(name), replace(views(), labels=None)
    if objective.needs_labels:
        with pytest.raises(DataError, match="needs labels"):
            loss(objective, blind)
    else:
        assert torch.equal(loss(objective, blind), loss(objective, views()))


@every_objective
def test_every_objective__refuses_a_batch_of_one(name: str) -> None:
    with pytest.raises(DataError, match="batch of"):
        loss(small(name), views(two_views(1)))


@every_objective
def test_every_objective__options_survive_json_and_are_explained(name: str) -> None:
    objective = small(name)
    assert from_json(type(objective), to_json(objective)) == objective
    assert all(option.help for option in options(find(FOLDER, name)))


@every_objective
def test_every_objective__two_ranks_equal_one_process_on_the_joined_batch(
    name: str, two_ranks: RankOutputs
) -> None:
    single = train(name, Ranks())
    for outputs in two_ranks:
        for key, value in single.items():
            torch.testing.assert_close(outputs[f"{name}/{key}"], value, rtol=1e-9, atol=1e-11)


@every_objective
def test_every_objective__two_ranks_stay_bit_equal(name: str, two_ranks: RankOutputs) -> None:
    one, other = ({k: v for k, v in r.items() if k.startswith(f"{name}/")} for r in two_ranks)
    assert one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
