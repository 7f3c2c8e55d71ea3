"""State dicts of pre-trained networks: names and outputs of other libraries, or ours and why."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from factories import toy_network
from safetensors.torch import load_file
from timm_here import timm_or_skip
from torch import Tensor
from torchvision_networks import VGG11BN
from torchvision_networks import ResNet18 as TorchvisionResNet18

from datastill.cli.main import main
from datastill.core.errors import ConfigError
from datastill.core.rng import seeded
from datastill.export import export_network
from datastill.images import Normalizer
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

OUTPUTS = 5
every_format = pytest.mark.parametrize("suffix", [".safetensors", ".pt"])


def pretrained(
    architecture: Architecture, *, size: int = 32, channels: int = 3, zca: Zca | None = None
) -> PretrainedNetwork:
    """A network whose running statistics are those of one batch of noise."""
    with seeded(0, "export"):
        network = architecture(image_size=size, channels=channels, outputs=OUTPUTS)
        network.train()(torch.randn(8, channels, size, size))
    normalizer = Normalizer((0.5,) * channels, (0.25,) * channels, zca)
    return PretrainedNetwork(network, normalizer, {"seed": 3})


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def read(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        return load_file(file)
    weights: dict[str, Tensor] = torch.load(file, weights_only=True)
    return weights


def run_printed(text: str) -> Any:
    """The network that the printed lines make."""
    names: dict[str, Any] = {}
    exec(text, names)
    return names["network"]


def assert_same(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@every_format
def test_export__resnet18_is_torchvisions(suffix: str, tmp_path: Path) -> None:
    trained = pretrained(ResNet18(stem="large"), size=64)
    text = export_network(trained, tmp_path / f"network{suffix}")
    theirs = TorchvisionResNet18(OUTPUTS).eval()
    theirs.load_state_dict(read(tmp_path / f"network{suffix}"))
    x = noise(3, 3, 64, 64)
    assert_same(theirs(x), trained.network(x))
    assert f"resnet18(num_classes={OUTPUTS}) in timm and torchvision.models" in text


def test_export__vgg11_has_the_features_of_torchvisions(tmp_path: Path) -> None:
    trained = pretrained(VGG11())
    text = export_network(trained, tmp_path / "network.pt")
    theirs = VGG11BN().eval()
    missing, unexpected = theirs.load_state_dict(read(tmp_path / "network.pt"), strict=False)
    assert missing == [] and unexpected == ["head.weight", "head.bias"]
    x = noise(2, 3, 32, 32)
    assert_same(theirs.features(x).flatten(1), trained.network.embed(x))
    assert "strict=False" in text and "no place for head.*" in text


@pytest.mark.parametrize(
    ("architecture", "difference"),
    [
        (AlexNet(width=8), "all its convolutions have stride 1"),
        (ConvNet(widths=(4, 8), norm="instance"), "no blocks of convolution"),
        (MobileNet(width=8), "stem has stride 1"),
        (ResNet10(width=8), "one block in each stage"),
        (ResNet18(width=8), "theirs has the large stem and a width of 64"),
        (ResNet18(width=8, stem="large"), "theirs has the large stem and a width of 64"),
        (VGG11(widths=(8, 16)), "theirs has the widths 64"),
    ],
    ids=str,
)
@every_format
def test_export__other_networks_keep_our_names_and_say_how_to_load(
    architecture: Architecture, difference: str, suffix: str, tmp_path: Path
) -> None:
    trained = pretrained(architecture)
    text = export_network(trained, tmp_path / f"network{suffix}")
    assert read(tmp_path / f"network{suffix}").keys() == trained.network.state_dict().keys()
    x = noise(2, 3, 32, 32)
    assert torch.equal(run_printed(text)(x), trained.network(x))
    assert difference in text and "minus [0.5, 0.5, 0.5], divided by [0.25, 0.25, 0.25]" in text


def test_export__safetensors_say_where_the_weights_are_from(tmp_path: Path) -> None:
    export_network(pretrained(ConvNet(widths=(4,))), tmp_path / "network.safetensors")
    with safetensors.safe_open(tmp_path / "network.safetensors", "pt") as file:
        about = json.loads(file.metadata()["datastill"])
    assert about["provenance"] == {"seed": 3} and about["normalisation"]["std"] == [0.25] * 3


def test_export__takes_a_folder_and_prints_the_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = toy_network()
    PretrainedNetwork(network, Normalizer((0.5,), (0.25,)), {}).save(
        tmp_path / "run/network-0.safetensors"
    )
    file = tmp_path / "new/toy.safetensors"
    assert main(["export", str(tmp_path / "run"), "--to", str(file)]) == 0
    x = noise(2, 1, 8, 8)
    assert torch.equal(run_printed(capsys.readouterr().out)(x), network(x))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("network.h5", "the ending must be .safetensors, .pt or .onnx"),
        ("network", "the ending must be .safetensors, .pt or .onnx"),
        ("there.pt", "there.pt exists; remove it or choose another name"),
        ("network.onnx", r"needs onnx and onnxscript; .* pip install 'datastill\[onnx\]'"),
        ("network.pt", "expects whitened images, and a state dict cannot hold the whitening"),
    ],
)
def test_export__refuses_before_writing(
    file: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "there.pt").touch()
    whitened = pretrained(ConvNet(widths=(4,)), size=8, zca=Zca(torch.zeros(192), torch.eye(192)))
    with pytest.raises(ConfigError, match=message):
        export_network(whitened, tmp_path / file)
    assert [path.name for path in tmp_path.iterdir()] == ["there.pt"]


def test_export__missing_network_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "network.pt"
    assert main(["export", str(tmp_path), "--to", str(file)]) == 2
    assert "no network-SEED.safetensors" in capsys.readouterr().err
    assert not file.exists()


@pytest.mark.parametrize("channels", [1, 3])
def test_export__resnet18_loads_into_timm(channels: int, tmp_path: Path) -> None:
    timm_or_skip()
    trained = pretrained(ResNet18(stem="large"), channels=channels)
    network = run_printed(export_network(trained, tmp_path / "network.safetensors"))
    x = noise(2, channels, 32, 32)
    assert_same(network(x), trained.network(x))


def test_export__vgg11_loads_into_timm(tmp_path: Path) -> None:
    timm_or_skip()
    trained = pretrained(VGG11())
    network = run_printed(export_network(trained, tmp_path / "network.safetensors"))
    x = noise(2, 3, 32, 32)
    assert_same(network.features(x).flatten(1), trained.network.embed(x))


def test_export__loads_into_the_real_torchvision(tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision.models")
    resnet, vgg = pretrained(ResNet18(stem="large")), pretrained(VGG11())
    for number, trained in enumerate((resnet, vgg)):
        export_network(trained, tmp_path / f"{number}.pt")
    x = noise(2, 3, 32, 32)
    theirs = models.resnet18(num_classes=OUTPUTS).eval()
    theirs.load_state_dict(read(tmp_path / "0.pt"))
    assert_same(theirs(x), resnet.network(x))
    theirs = models.vgg11_bn().eval()
    missing, _ = theirs.load_state_dict(read(tmp_path / "1.pt"), strict=False)
    assert all(name.startswith("classifier.") for name in missing)
    assert_same(theirs.features(x).flatten(1), vgg.network.embed(x))


@pytest.mark.parametrize(
    ("model", "size", "head"),
    [
        ("test_resnet", 32, True),
        ("test_vit", 32, True),
        ("mobilenetv3_small_050", 32, True),
        ("resnetv2_50x1_bit", 32, False),  # its classifier is a convolution
    ],
)
def test_export__networks_of_timm_keep_their_names(
    model: str, size: int, head: bool, tmp_path: Path
) -> None:
    timm_or_skip()
    trained = pretrained(Timm(model), size=size)
    text = export_network(trained, tmp_path / "network.safetensors")
    x = noise(2, 3, size, size)
    expected = trained.network(x) if head else trained.network.embed(x)
    assert_same(run_printed(text)(x), expected)
    assert ("the head is left out" in text) is not head


def test_export__network_of_timm_that_enlarges_keeps_our_names(tmp_path: Path) -> None:
    timm_or_skip()
    trained = pretrained(Timm("test_resnet", enlarge_to=48), size=32)
    text = export_network(trained, tmp_path / "network.safetensors")
    x = noise(2, 3, 32, 32)
    assert_same(run_printed(text)(x), trained.network(x))
