"""ONNX files: onnxruntime gives the outputs of PyTorch, from bytes and for batches of any size."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from test_export import pretrained
from timm_here import timm_or_skip
from torch import Tensor, nn

from datastill.core.errors import ConfigError
from datastill.export import export_network
from datastill.networks.alexnet import AlexNet
from datastill.networks.architecture import Architecture
from datastill.networks.convnet import ConvNet
from datastill.networks.mobilenet import MobileNet
from datastill.networks.resnet10 import ResNet10
from datastill.networks.resnet18 import ResNet18
from datastill.networks.timm import Timm
from datastill.networks.vgg11 import VGG11
from datastill.ops.zca import Zca
from datastill.pretrained_network import PretrainedNetwork

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")


def assert_equal_in_onnx(trained: PretrainedNetwork, file: Path) -> None:
    export_network(trained, file)
    session = onnxruntime.InferenceSession(str(file))
    network = trained.network
    for count in (1, 7):
        shape = (count, network.channels, network.image_size, network.image_size)
        generator = torch.Generator().manual_seed(count)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        (outputs,) = session.run(None, {"images": images.numpy()})
        expected = network(trained.normalizer(images.float() / 255))
        torch.testing.assert_close(torch.tensor(outputs), expected.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "architecture",
    [
        AlexNet(width=8),
        ConvNet(widths=(4, 8)),
        ConvNet(widths=(4, 8), norm="instance"),
        ConvNet(widths=(4, 8), norm="none"),
        MobileNet(width=8),
        ResNet10(width=8),
        ResNet18(width=8),
        ResNet18(width=8, stem="large"),
        Timm("test_vit"),
        VGG11(widths=(8, 16)),
    ],
    ids=str,
)
def test_onnx__outputs_agree(architecture: Architecture, tmp_path: Path) -> None:
    if isinstance(architecture, Timm):
        timm_or_skip()
    assert_equal_in_onnx(pretrained(architecture), tmp_path / "network.onnx")


def test_onnx__whitening_is_inside(tmp_path: Path) -> None:
    images = torch.rand(50, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    zca = Zca.fit([images], ridge_of_mean=0.1)
    trained = pretrained(ConvNet(widths=(4, 8)), size=9, channels=1, zca=zca)
    assert_equal_in_onnx(trained, tmp_path / "network.onnx")


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) if x.mean() > 0 else -x.flatten(1)


@dataclass(frozen=True)
class BranchingNet(Architecture):
    """A network that looks at its values, which a graph cannot express."""

    def min_size(self) -> int:
        return 1

    def build_body(self, image_size: int, channels: int) -> tuple[nn.Module, int]:
        return Branching(), channels * image_size**2


def test_onnx__network_that_it_cannot_express_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ONNX cannot express BranchingNet"):
        export_network(pretrained(BranchingNet()), tmp_path / "network.onnx")
    assert not list(tmp_path.iterdir())
