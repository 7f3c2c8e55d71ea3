"""ReLU and average pooling in one: PyTorch's own pair, to the bit, forwards and back."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from datastill.networks._fused_pool import FusedReLUAvgPool

SIZES = pytest.mark.parametrize("size", [(4, 4), (5, 6), (6, 7), (3, 1)], ids=str)
LAYOUTS = pytest.mark.parametrize(
    "layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "channels-last"]
)


def maps(size: tuple[int, int], number: torch.dtype, layout: torch.memory_format) -> Tensor:
    x = torch.randn(3, 5, *size, generator=torch.Generator().manual_seed(0))
    return x.to(number).contiguous(memory_format=layout)


def forward_and_backward(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    y = layer(x * 1)  # a copy, which may be overwritten
    return y, torch.autograd.grad(y.float().cos().sum(), x)[0]


@SIZES
@LAYOUTS
@pytest.mark.parametrize("number", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_fused_pool__is_relu_and_average_pooling(
    size: tuple[int, int], number: torch.dtype, layout: torch.memory_format
) -> None:
    x = maps(size, number, layout)
    if min(size) < 2:
        with pytest.raises(RuntimeError, match="too small"):
            FusedReLUAvgPool()(x.clone())
        return
    pair = nn.Sequential(nn.ReLU(), nn.AvgPool2d(2))
    fused, pair_results = forward_and_backward(FusedReLUAvgPool(), x), forward_and_backward(pair, x)
    for actual, wanted in zip(fused, pair_results, strict=True):
        assert torch.equal(actual, wanted)
        assert actual.stride() == wanted.stride()


@pytest.mark.parametrize("size", [(4, 4), (5, 6)], ids=str)
def test_fused_pool__can_be_differentiated_twice(size: tuple[int, int]) -> None:
    """As methods do that match gradients."""
    x = maps(size, torch.float64, torch.channels_last).requires_grad_()

    def layer(x: Tensor) -> Tensor:
        pooled: Tensor = FusedReLUAvgPool()(x * 1)
        return pooled.square()

    assert gradcheck(layer, x)
    assert gradgradcheck(layer, x)


def test_fused_pool__overwrites_what_it_is_given() -> None:
    x = maps((4, 4), torch.float32, torch.channels_last)
    before = x.clone()
    FusedReLUAvgPool()(x)
    assert torch.equal(x, before.relu())


def test_fused_pool__never_spoils_what_another_layer_had_kept() -> None:
    x = maps((4, 4), torch.float32, torch.channels_last).requires_grad_()
    kept = x.exp()  # whose gradient needs its own output
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        FusedReLUAvgPool()(kept).sum().backward()
