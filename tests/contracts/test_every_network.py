"""The contract of every file in datastill/networks."""

import dataclasses

import pytest
import torch
from factories import equal, toy_images, toy_problem, weights
from timm_here import timm_or_skip
from torch import Tensor

from datastill.core.errors import ConfigError
from datastill.core.lookup import find, names
from datastill.core.options import from_json, options, to_json
from datastill.core.rng import fork, seeded
from datastill.distill import distill
from datastill.methods.krr_st import KRRST
from datastill.networks.architecture import Architecture, Network, copy_body

FOLDER = "datastill.networks"
SMALL = {"width": 4, "widths": (4, 8), "model": "test_resnet"}  # of whatever has such an option
CHANNELS = 2
every_network = pytest.mark.parametrize("architecture", names(FOLDER), indirect=True)


@pytest.fixture
def architecture(request: pytest.FixtureRequest) -> Architecture:
    if request.param == "timm":
        timm_or_skip()
    component = find(FOLDER, request.param)
    fields = {f.name for f in dataclasses.fields(component)}
    architecture = component(**{k: v for k, v in SMALL.items() if k in fields})
    assert isinstance(architecture, Architecture)
    return architecture


def new_network(
    architecture: Architecture, *, seed: int = 0, size: int = 16, outputs: int | None = 3
) -> Network:
    with seeded(seed, "network"):
        return architecture(image_size=size, channels=CHANNELS, outputs=outputs)


def images(count: int = 4, size: int = 16) -> Tensor:
    return torch.randn(count, CHANNELS, size, size, generator=fork(0, "images"))


@every_network
@pytest.mark.parametrize("size", [16, 17, 20])
def test_every_network__gives_the_outputs_asked_for(architecture: Architecture, size: int) -> None:
    network = new_network(architecture, size=size)
    assert network(images(size=size)).shape == (4, 3)
    assert network.outputs == 3


@every_network
def test_every_network__forward_is_head_of_embed(architecture: Architecture) -> None:
    network = new_network(architecture).eval()
    features = network.embed(images())
    assert features.shape == (4, network.num_features)
    assert torch.equal(network(images()), network.head(features))
    headless = new_network(architecture, outputs=None).eval()
    assert headless.outputs == headless.num_features
    assert torch.equal(headless(images()), headless.embed(images()))


@every_network
def test_every_network__gradients_reach_images_and_all_parameters(
    architecture: Architecture,
) -> None:
    network, x = new_network(architecture).train(), images().requires_grad_()
    network(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert x.grad is not None and x.grad.abs().sum() > 0


@every_network
def test_every_network__works_at_its_smallest_size(architecture: Architecture) -> None:
    size = architecture.min_size()
    network = new_network(architecture, size=size).train()
    assert network(images(size=size)).isfinite().all()
    with pytest.raises(ConfigError, match=f"at least {size} pixels, got {size - 1}"):
        new_network(architecture, size=size - 1)


@every_network
def test_every_network__follows_the_seed(architecture: Architecture) -> None:
    first, again, other = (weights(new_network(architecture, seed=s)) for s in (0, 0, 1))
    assert equal(first, again) and not equal(first, other)


@every_network
def test_every_network__evaluation_does_not_mix_images(architecture: Architecture) -> None:
    network = new_network(architecture).eval()
    torch.testing.assert_close(network(images())[:1], network(images()[:1]))


@every_network
def test_every_network__body_is_copied_without_the_head(architecture: Architecture) -> None:
    source = new_network(architecture, seed=0)
    copy = new_network(architecture, seed=1, outputs=7)
    source.train()(images())  # so that running statistics are copied too
    source_weights, head = weights(source), weights(copy.head)
    copy_body(source, copy)
    assert torch.equal(source.eval().embed(images()), copy.eval().embed(images()))
    assert equal(weights(copy.head), head)
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.zero_()
    assert equal(weights(source), source_weights)  # nothing is shared


@every_network
def test_every_network__can_be_an_inner_model(architecture: Architecture) -> None:
    problem = toy_problem(images=toy_images(size=16))
    method = KRRST(outer_steps=3, outer_batch=8, pool_size=2, max_age=2, outer_lr=0.01)
    distilled = distill(method, dataclasses.replace(problem, network=architecture))
    start = method.result(problem, method.init(problem))
    assert distilled.images.isfinite().all() and not torch.equal(distilled.images, start.images)


@every_network
def test_every_network__options_survive_json_and_are_explained(architecture: Architecture) -> None:
    assert from_json(type(architecture), to_json(architecture)) == architecture
    assert all(option.help for option in options(architecture))
