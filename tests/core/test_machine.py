"""Machine: device, number format and memory layout."""

from dataclasses import dataclass, field

import pytest
import torch
from reliability import Figures
from torch import Tensor, nn

from datastill.core.errors import ConfigError
from datastill.core.machine import Machine, fits_in_memory
from datastill.core.ranks import Ranks
from datastill.networks.architecture import Architecture
from datastill.networks.convnet import ConvNet
from datastill.networks.resnet18 import ResNet18


@pytest.fixture
def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten())


def images() -> torch.Tensor:
    return torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(0))


def with_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_machine__without_a_gpu_auto_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Machine.find("auto", "bfloat16") == Machine("cpu", "bfloat16")
    with pytest.raises(ConfigError, match=r"--device cuda:1.* use cpu or auto"):
        Machine.find("cuda:1", "float32")


def test_machine__each_rank_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sixth of eight ranks, the second of its host."""
    with_gpus(monkeypatch, 4)
    ranks = Ranks(rank=5, size=8, local=1)
    assert Machine.find("auto", ranks=ranks) == Machine("cuda:1", ranks=ranks)
    assert Machine.find("cuda:3", ranks=ranks).device == "cuda:3"
    with pytest.raises(ConfigError, match="cuda:4: PyTorch sees 4 CUDA devices"):
        Machine.find("cuda", ranks=Ranks(rank=5, size=8, local=4))


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, "bfloat16"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bfloat16"),
        ({"avx512_bf16": False, "amx_bf16": False}, "float32"),
        ({}, "float32"),
    ],
)
def test_machine__precision_follows_the_instructions(
    instructions: dict[str, bool], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # torch 2.6 has no such function
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions, raising=False)
    assert Machine.find("cpu", "auto").precision == expected
    assert Machine.find("cpu").precision == Machine().precision == "float32"


@pytest.mark.parametrize(("native", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_machine__precision_on_a_gpu_is_what_it_has_by_itself(
    native: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpus(monkeypatch, 1)
    emulated = {True: True, False: native}
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: emulated[including_emulation]
    )
    assert Machine.find("cuda", "auto").precision == expected


def test_machine__runs_networks_in_channels_last(network: nn.Module) -> None:
    torch.testing.assert_close(Machine().forward(network, images()), network(images()))
    assert Machine().to_device(network) is network
    weight = network.get_parameter("0.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_machine__bfloat16_returns_float32_near_the_plain_network(network: nn.Module) -> None:
    outputs = Machine(precision="bfloat16").forward(network, images())
    assert outputs.dtype == torch.float32
    assert not torch.equal(outputs, network(images()))
    torch.testing.assert_close(outputs, network(images()), atol=0.05, rtol=0.05)


@dataclass
class Cramped:
    """A network that has memory for a few images at once only."""

    network: nn.Module
    images: int
    error: Exception
    batch_sizes: list[int] = field(default_factory=list)

    def __call__(self, x: Tensor) -> Tensor:
        self.batch_sizes.append(len(x))
        if len(x) > self.images:
            raise self.error
        out: Tensor = self.network(x)
        return out


SHORT = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
)


@pytest.mark.parametrize("error", SHORT, ids=["cuda", "cpu", "python"])
@pytest.mark.parametrize("architecture", [ConvNet((8, 16)), ResNet18(width=8)])
def test_forward_in_chunks__halves_the_images_where_memory_runs_out(
    architecture: Architecture, error: Exception, figures: Figures
) -> None:
    network = architecture(image_size=16, channels=3, outputs=4).eval()
    x = torch.randn(11, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    expected, cramped = Machine().forward_in_chunks(network, x), Cramped(network, 3, error)
    outputs = Machine().forward_in_chunks(cramped, x)
    assert cramped.batch_sizes == [11, 6, 3, 3, 5, 3, 2]
    assert not outputs.requires_grad
    torch.testing.assert_close(outputs, expected, rtol=1e-5, atol=1e-6)
    furthest = float((outputs - expected).abs().max() / expected.abs().max())
    figures.add(f"memory runs out: {type(architecture).__name__} in halves", f"{furthest:.1e}")


def test_forward_in_chunks__gives_a_cpu_few_images_at_once(network: nn.Module) -> None:
    x = torch.randn(11, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    patient = Cramped(network, 11, SHORT[0])
    outputs = Machine(chunk_pixels=3 * 16 + 15).forward_in_chunks(patient, x)
    assert patient.batch_sizes == [3, 3, 3, 2]
    torch.testing.assert_close(outputs, Machine().forward_in_chunks(network, x))


def test_forward_in_chunks__gives_a_gpu_all_images_at_once_and_a_cpu_one_at_least() -> None:
    assert Machine("cuda:0").images_per_chunk(224**2) >= 2**31
    assert Machine().images_per_chunk(1024**2) == 1


@pytest.mark.parametrize(("error", "batches"), [(SHORT[0], [2, 1]), (RuntimeError("x"), [2])])
def test_forward_in_chunks__gives_up_at_one_image_and_for_other_errors(
    error: Exception, batches: list[int], network: nn.Module
) -> None:
    cramped = Cramped(network, 0, error)
    with pytest.raises(type(error), match=str(error)):
        Machine().forward_in_chunks(cramped, images())
    assert cramped.batch_sizes == batches


def test_machine__chooses_how_cuda_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 lets the rest use TF32 and cuDNN try its algorithms; float32 agrees with a CPU."""
    with_gpus(monkeypatch, 1)
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    try:
        Machine.find("cuda", "bfloat16")
        assert matmul.allow_tf32 and cudnn.allow_tf32 and cudnn.benchmark
        Machine.find("cuda", "float32")
        assert not (matmul.allow_tf32 or cudnn.allow_tf32 or cudnn.benchmark)
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before


GIB = 2**30


def test_fits_in_memory__counts_what_pytorch_reserved_and_does_not_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5 * GIB, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1 * GIB)
    assert fits_in_memory(3.5 * GIB, "cuda:1") and not fits_in_memory(3.5 * GIB + 1, "cuda:1")
    assert fits_in_memory(100 * GIB, "cpu")
