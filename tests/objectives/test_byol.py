"""BYOL against its equations in NumPy, its moving average, and what must not matter."""

import math

import numpy as np
import pytest
import torch
from ranks import modules, two_views
from torch import nn

from datastill.networks.architecture import Network
from datastill.objectives.byol import BYOL, BYOLHeads
from datastill.objectives.objective import Views

SMALL = BYOL(projector=(8, 6), predictor=(7,))


def parts(objective: BYOL = SMALL) -> tuple[Network, BYOLHeads]:
    network, heads = modules(objective)
    assert isinstance(heads, BYOLHeads)
    return network, heads


def moved(network: Network, heads: BYOLHeads) -> None:
    """Take the online network somewhere else, as an optimizer would."""
    with torch.no_grad():
        for k, parameter in enumerate([*network.parameters(), *heads.projector.parameters()]):
            parameter.add_(0.1 * torch.cos(torch.arange(parameter.numel()) + k).view_as(parameter))


def seen() -> Views:
    return Views(two_views().flatten(0, 1))


def mlp_in_numpy(layers: nn.Module, x: np.ndarray) -> np.ndarray:
    """Linear, batch norm over the batch, ReLU, linear."""
    first, norm, _, last = (dict(layer.named_parameters()) for layer in layers.children())
    x = x @ first["weight"].detach().numpy().T
    x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    x = np.maximum(0, x * norm["weight"].detach().numpy() + norm["bias"].detach().numpy())
    return np.asarray(x @ last["weight"].detach().numpy().T)


def test_byol__equals_equations_in_numpy() -> None:
    """Equations 1 and 2: q(g(f(v))) regresses g'(f'(v')), both scaled to length one."""
    network, heads = parts()
    moved(network, heads)
    pixels = two_views().flatten(0, 1)
    online = mlp_in_numpy(heads.projector, network(pixels).detach().numpy())
    predicted = mlp_in_numpy(heads.predictor, online)
    target = mlp_in_numpy(heads.target[1], heads.target[0](pixels).numpy())
    p, z = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (predicted, target))
    half = len(p) // 2
    total = ((p[:half] - z[half:]) ** 2).sum() + ((p[half:] - z[:half]) ** 2).sum()
    assert float(SMALL.loss(heads, network, seen()).detach()) == pytest.approx(
        total / half, rel=1e-9
    )


def test_byol__target_network_gets_no_gradient() -> None:
    network, heads = parts()
    SMALL.loss(heads, network, seen()).backward()
    assert all(p.grad is None and not p.requires_grad for p in heads.target.parameters())


def test_byol__target_starts_as_a_copy_of_the_online_network() -> None:
    network, heads = parts()
    online = [*network.parameters(), *heads.projector.parameters()]
    pairs = list(zip(online, heads.target.parameters(), strict=True))
    assert all(torch.equal(p, q) and p.data_ptr() != q.data_ptr() for p, q in pairs)


def test_byol__predictor_is_not_averaged() -> None:
    network, heads = parts()
    count = len([*network.parameters(), *heads.projector.parameters()])
    assert len(list(heads.target.parameters())) == count
    before = [p.detach().clone() for p in heads.predictor.parameters()]
    SMALL.after_step(heads, network, progress=0.0)
    assert all(map(torch.equal, before, heads.predictor.parameters()))


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.99])
def test_byol__target_moves_by_one_minus_tau(progress: float) -> None:
    network, heads = parts()
    moved(network, heads)
    theta = [p.detach().clone() for p in (*network.parameters(), *heads.projector.parameters())]
    xi = [p.clone() for p in heads.target.parameters()]
    SMALL.after_step(heads, network, progress=progress)
    tau = 1 - 0.004 * (math.cos(math.pi * progress) + 1) / 2
    for now, old, online in zip(heads.target.parameters(), xi, theta, strict=True):
        torch.testing.assert_close(now, tau * old + (1 - tau) * online, rtol=1e-12, atol=1e-14)


def test_byol__heads_are_the_papers() -> None:
    network, _ = parts()
    heads = BYOL().heads(network, 0)
    shapes = [
        tuple(p.shape) for p in (*heads.projector.parameters(), *heads.predictor.parameters())
    ]
    assert shapes == [
        *[(4096, 6), (4096,), (4096,), (256, 4096)],
        *[(4096, 256), (4096,), (4096,), (256, 4096)],
    ]


def test_byol__without_a_projector_predicts_the_representation() -> None:
    _, heads = parts(BYOL(projector=(), predictor=()))
    assert [tuple(p.shape) for p in heads.predictor.parameters()] == [(6, 6)]
    assert list(heads.projector.parameters()) == []
