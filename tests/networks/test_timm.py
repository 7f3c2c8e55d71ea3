"""Networks of timm: refusals without it, and with it their sizes and their weights."""

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from factories import equal, toy_images, weights
from safetensors.torch import save_file
from timm_here import timm_or_skip

from datastill.core.atomic import sha256
from datastill.core.errors import ArtefactError, ConfigError
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


@pytest.fixture
def trained(timm: Any) -> Any:
    torch.manual_seed(7)
    return timm.create_model(MODEL, num_classes=5).eval()


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
    random = TargetModel.from_timm(MODEL, image_size=32, weights="random")
    assert target.fingerprint != random.fingerprint
    assert random.describe()["timm"]["weights"] == "random"


def test_target_model__from_timm_averages_the_normalizer_for_one_channel(timm: Any) -> None:
    target = TargetModel.from_timm(MODEL, image_size=8, channels=1, weights="random")
    config = timm.get_pretrained_cfg(MODEL)
    assert target.normalizer.mean == pytest.approx((sum(config.mean) / 3,))
    assert target.represent_images(toy_images()).shape == (24, target.dim)


def test_target_model__from_timm_leaves_the_global_generator_alone(timm: Any) -> None:
    before = torch.random.get_rng_state()
    TargetModel.from_timm(MODEL, image_size=32, weights="random")
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


def test_target_model__from_timm_takes_the_weights_of_a_file(trained: Any, tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    save_file(trained.state_dict(), file, {"licence": "MIT"})
    plain = TargetModel.from_timm(MODEL, image_size=16, weights=file)
    target = TargetModel.from_timm(MODEL, image_size=16, weights=file, enlarge_to=40)
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    larger = F.interpolate(x, (40, 40), mode="bicubic")
    for model, seen in ((plain, x), (target, larger)):
        expected = trained.forward_head(trained.forward_features(seen), pre_logits=True)
        torch.testing.assert_close(model.represent(x), expected.detach())
    source = target.describe()["timm"]
    assert (source["weights"], source["licence"]) == ("mine.safetensors", "MIT")
    assert source["sha256"] == sha256(file) and source["enlarge_to"] == 40
    others = [TargetModel.from_timm(MODEL, image_size=16, weights=file, enlarge_to=48), plain]
    assert target.fingerprint not in {other.fingerprint for other in others}
    target.save(tmp_path)
    file.unlink()
    loaded = TargetModel.load(tmp_path)
    assert loaded.fingerprint == target.fingerprint
    assert torch.equal(loaded.represent(x), target.represent(x))


def test_timm__larger_images_than_those_it_enlarges_to_are_refused(timm: Any) -> None:
    with pytest.raises(ConfigError, match="enlarge_to 16 is less than the images' 32 pixels"):
        Timm(MODEL, 16)(image_size=32, channels=3, outputs=None)


def test_target_model__weights_of_another_model_are_refused(trained: Any, tmp_path: Path) -> None:
    file, state = tmp_path / "mine.safetensors", trained.state_dict()
    first = next(iter(state))
    state[f"_{first}"] = state.pop(first)
    save_file(state, file)
    with pytest.raises(ConfigError, match=rf"first that differs is {first} .* it is _{first} \["):
        TargetModel.from_timm(MODEL, image_size=16, weights=file)
    save_file(trained.state_dict(), file)
    with pytest.raises(ConfigError, match=rf"{first} \[\d+, 1, .* it is {first} \[\d+, 3, "):
        TargetModel.from_timm(MODEL, image_size=16, channels=1, weights=file)


@pytest.mark.parametrize("name", ["mine.pth", "mine.safetensors"])
def test_target_model__pickled_weights_are_not_read(
    name: str, trained: Any, tmp_path: Path
) -> None:
    torch.save(trained.state_dict(), tmp_path / name)
    error, message = (
        (ConfigError, r"not a \.safetensors file.*Convert it: safetensors\.torch\.save_file")
        if name == "mine.pth"
        else (ArtefactError, "is damaged or no safetensors file")
    )
    with pytest.raises(error, match=message):
        TargetModel.from_timm(MODEL, image_size=16, weights=tmp_path / name)


PAGE = Path(__file__).parents[2] / "docs" / "target-models.md"


def test_docs__renaming_by_order_gives_a_file_that_fits(
    timm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = timm.create_model("tf_efficientnet_lite0")
    names = [n if n.startswith("classifier.") else f"_{n}" for n in model.state_dict()]
    renamed = [name.replace("classifier.", "_fc.") for name in names]
    torch.save(dict(zip(renamed, model.state_dict().values(), strict=True)), "theirs.pth")
    (snippet,) = re.findall(r"```python\n(import timm,.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    exec(snippet, {})
    target = TargetModel.from_timm(
        "tf_efficientnet_lite0", image_size=32, weights="lite0.safetensors", enlarge_to=64
    )
    model.reset_classifier(0)
    network: Any = target.module
    assert equal(weights(network.body.network), weights(model))
    assert target.describe()["timm"]["licence"] == "Apache-2.0"
