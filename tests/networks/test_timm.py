"""Networks of timm: refusals without it, and with it their sizes and their weights."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from factories import equal, toy_images, weights
from timm_here import timm_or_skip

from datastill.core.errors import ConfigError
from datastill.networks.timm import Timm
from datastill.target_model import TargetModel

MODEL = "test_resnet"  # a tiny one that timm keeps for tests


@pytest.fixture
def timm() -> Any:
    return timm_or_skip()


@pytest.fixture
def public(timm: Any, tmp_path: Path) -> Path:
    """A folder with a model and its weights as the hub keeps them."""
    torch.manual_seed(7)
    model = timm.create_model(MODEL, num_classes=5)
    timm.models.save_for_hf(model, tmp_path / "public", safe_serialization=True)
    return tmp_path / "public"


def test_timm__without_it_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"pip install 'datastill\[timm\]'"):
        Timm().check(32)


def test_timm__torchvision_that_does_not_fit_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(ConfigError, match=r"nms does not exist.*must be built for the same torch"):
        Timm().check(32)


def test_timm__architecture_is_a_value_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    assert Timm("resnet18") == Timm(model="resnet18")


def test_timm__unknown_model_names_the_nearest(timm: Any) -> None:
    with pytest.raises(ConfigError, match="no model 'resnet10x', did you mean 'resnet10t'"):
        Timm("resnet10x").check(32)


@pytest.mark.parametrize(
    ("model", "features"), [("resnet10t", 512), ("test_vit", 64), ("mobilenetv3_small_050", 1024)]
)
def test_timm__features_are_what_the_classifier_would_see(
    model: str, features: int, timm: Any
) -> None:
    network = Timm(model)(image_size=32, channels=1, outputs=None)
    classifier = timm.create_model(model).get_classifier()
    assert network.num_features == classifier.in_features == features
    assert network(torch.zeros(2, 1, 32, 32)).shape == (2, features)


def test_timm__images_that_a_model_cannot_take_are_refused(timm: Any) -> None:
    with pytest.raises(ConfigError, match="test_vit takes no images of 8 pixels"):
        Timm("test_vit")(image_size=8, channels=3, outputs=None)


def test_target_model__from_timm_has_public_weights_and_says_so(public: Path, timm: Any) -> None:
    expected = timm.create_model(f"local-dir:{public}", pretrained=True, num_classes=0).eval()
    target = TargetModel.from_timm(f"local-dir:{public}", image_size=32)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert equal(weights(target.module), weights(expected))
    torch.testing.assert_close(target.represent(x), expected(x).detach())
    config = timm.get_pretrained_cfg(MODEL)
    assert (target.normalizer.mean, target.normalizer.std) == (config.mean, config.std)
    source = target.describe()["timm"]
    assert source["version"] == timm.__version__ and source["weights"] == str(public)
    random = TargetModel.from_timm(MODEL, image_size=32, pretrained=False)
    assert target.fingerprint != random.fingerprint
    assert random.describe()["timm"]["weights"] == "random"


def test_target_model__from_timm_averages_the_normalizer_for_one_channel(timm: Any) -> None:
    target = TargetModel.from_timm(MODEL, image_size=8, channels=1, pretrained=False)
    config = timm.get_pretrained_cfg(MODEL)
    assert target.normalizer.mean == pytest.approx((sum(config.mean) / 3,))
    assert target.represent_images(toy_images()).shape == (24, target.dim)


def test_target_model__from_timm_leaves_the_global_generator_alone(timm: Any) -> None:
    before = torch.random.get_rng_state()
    TargetModel.from_timm(MODEL, image_size=32, pretrained=False)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_target_model__from_timm_comes_back_without_its_public_weights(
    public: Path, timm: Any, tmp_path: Path
) -> None:
    target = TargetModel.from_timm(f"local-dir:{public}", image_size=32)
    target.save(tmp_path)
    (public / "model.safetensors").unlink()
    loaded = TargetModel.load(tmp_path)
    assert loaded.fingerprint == target.fingerprint
    assert equal(weights(loaded.module), weights(target.module))


def test_target_model__weights_that_cannot_be_had_are_explained(
    timm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create_model(name: str, *, pretrained: bool, **wanted: Any) -> Any:
        if pretrained:
            raise OSError("no route to host")
        return original(name, **wanted)

    original = timm.create_model
    monkeypatch.setattr(timm, "create_model", create_model)
    with pytest.raises(ConfigError, match=r"with its public weights.*no route to host"):
        TargetModel.from_timm(MODEL, image_size=32)
