"""MobileNet has the blocks of the released code."""

import pytest
import torch
from torch import Tensor, nn

from datastill.networks.mobilenet import InvertedResidual, MobileNet


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 4, 7, 7, generator=torch.Generator().manual_seed(0))


def blocks() -> list[InvertedResidual]:
    body, _ = MobileNet().build_body(32, 3)
    return [module for module in body.modules() if isinstance(module, InvertedResidual)]


def test_mobilenet__channels_are_those_of_the_released_code() -> None:
    actual = [block.residual.get_parameter("6.weight").shape[0] for block in blocks()]
    expected = [16, *[24] * 2, *[32] * 3, *[64] * 4, *[96] * 3, *[160] * 3, 320]
    assert actual == expected


def test_mobilenet__expands_by_2_but_not_in_the_first_block() -> None:
    shapes = [block.residual.get_parameter("0.weight").shape for block in blocks()]
    assert [out // channels for out, channels, *_ in shapes] == [1, *[2] * 16]


def test_mobilenet__halves_the_maps_three_times() -> None:
    strides = [block.residual.get_submodule("3").stride for block in blocks()]
    assert [n for n, stride in enumerate(strides) if stride == (2, 2)] == [3, 6, 13]


def test_inverted_residual__adds_its_input_where_nothing_changes(x: Tensor) -> None:
    block = InvertedResidual(4, 4, expansion=2, stride=1).eval()
    torch.testing.assert_close(block(x), block.residual(x) + x)


def test_inverted_residual__projects_its_input_where_channels_change(x: Tensor) -> None:
    block = InvertedResidual(4, 6, expansion=2, stride=1).eval()
    assert isinstance(block.shortcut, nn.Sequential)
    torch.testing.assert_close(block(x), block.residual(x) + block.shortcut(x))


def test_inverted_residual__has_no_shortcut_where_maps_shrink(x: Tensor) -> None:
    block = InvertedResidual(4, 4, expansion=2, stride=2).eval()
    torch.testing.assert_close(block(x), block.residual(x))
    assert block.shortcut is None and block(x).shape == (2, 4, 4, 4)
