"""Machine: device, number format and memory layout."""

import pytest
import torch
from torch import nn

from datastill.ground.errors import ConfigError
from datastill.ground.machine import Machine
from datastill.ground.world import World


@pytest.fixture
def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten())


def images() -> torch.Tensor:
    return torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(0))


def without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def with_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_machine__auto_is_the_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    without_cuda(monkeypatch)
    assert Machine.find("auto", "bfloat16") == Machine("cpu", "bfloat16")


def test_machine__auto_is_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 1)
    assert Machine.find("auto", "float32").device == "cuda"


def test_machine__each_rank_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sixth of eight ranks, the second of its host."""
    with_gpus(monkeypatch, 4)
    world = World(rank=5, size=8, local=1)
    assert Machine.find("auto", world=world) == Machine("cuda:1", world=world)
    assert Machine.find("cuda:3", world=world).device == "cuda:3"
    with pytest.raises(ConfigError, match="cuda:4: there are 4 devices"):
        Machine.find("cuda", world=World(rank=5, size=8, local=4))


def test_machine__missing_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    without_cuda(monkeypatch)
    with pytest.raises(ConfigError, match=r"--device cuda:1.* use cpu or auto"):
        Machine.find("cuda:1", "float32")


def test_machine__places_in_channels_last(network: nn.Module) -> None:
    assert Machine().place(network) is network
    weight = network.get_parameter("0.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_machine__float32_equals_the_plain_network(network: nn.Module) -> None:
    torch.testing.assert_close(Machine().run(network, images()), network(images()))


def test_machine__bfloat16_returns_float32_near_the_plain_network(network: nn.Module) -> None:
    found = Machine(precision="bfloat16").run(network, images())
    assert found.dtype == torch.float32
    assert not torch.equal(found, network(images()))
    torch.testing.assert_close(found, network(images()), atol=0.05, rtol=0.05)
