"""Pre-trained networks: files that load anywhere, transforms of images, modules of other people."""

import copy
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from factories import KilledError, always_saving, equal, killed_at, toy_images, toy_set, weights
from PIL import Image
from torch import Tensor, nn

import datastill as ds
from datastill.core.errors import ArtefactError, ConfigError
from datastill.data.decode import decode_files
from datastill.pretrain import PRETRAINING

SETTINGS = replace(PRETRAINING["representation"], steps=4, batch=5)
RGB = ds.ImageTransform(ds.Normalizer((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)), 8, 3)


class Foreign(nn.Module):
    """A network of somebody else: dropout, batch norm, a frozen part."""

    def __init__(self, outputs: int = 5) -> None:
        super().__init__()
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.head = nn.LazyLinear(outputs)
        self(torch.zeros(1, 1, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.body(x).flatten(1) * self.frozen)
        return result


def photo(mode: str = "RGB", size: tuple[int, int] = (20, 13)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def test_pretrained_network__is_the_same_after_loading(tmp_path: Path) -> None:
    images = toy_images().whitened(1e-3)
    network = ds.ConvNet(widths=(4,))(image_size=8, channels=1, outputs=5)
    saved = ds.PretrainedNetwork(network, images.normalizer, {"seed": 3})
    saved.save(tmp_path / "network-3.safetensors")
    loaded, transform = ds.load_network(tmp_path)
    assert not loaded.training and equal(weights(loaded), weights(network))
    assert torch.equal(transform(images.images), images.normalized(slice(None)))
    again = ds.PretrainedNetwork.load(tmp_path / "network-3.safetensors")
    assert again.fingerprint == saved.fingerprint and again.provenance == {"seed": 3}


def test_load_network__folder_with_none_or_several_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"has no network-SEED.safetensors; give one file"):
        ds.load_network(tmp_path)
    network = ds.ConvNet(widths=(4,))(image_size=8, channels=1, outputs=5)
    for seed in range(2):
        saved = ds.PretrainedNetwork(network, ds.Normalizer((0.5,), (0.2,)))
        saved.save(tmp_path / f"network-{seed}.safetensors")
    with pytest.raises(ArtefactError, match=r"network-0.safetensors, network-1.safetensors; give"):
        ds.load_network(tmp_path)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "I;16"])
def test_image_transform__pil_images_become_what_sources_read(mode: str, tmp_path: Path) -> None:
    deep = Image.fromarray(np.asarray(photo("L")).astype(np.uint16) * 256)
    image = deep if mode == "I;16" else photo(mode)
    image.save(tmp_path / "a.png")
    read = torch.from_numpy(decode_files([tmp_path / "a.png"], 8).images)
    assert torch.equal(RGB(Image.open(tmp_path / "a.png")), RGB(read)[0])


def test_image_transform__arrays_and_tensors_agree() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    expected = RGB.normalizer(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
    for batch in (pixels, torch.from_numpy(pixels).permute(0, 3, 1, 2)):
        assert torch.equal(RGB(batch), expected) and torch.equal(RGB(batch[1]), expected[1])
    assert torch.equal(RGB(Image.fromarray(pixels[2])), expected[2])
    grey = ds.ImageTransform(ds.Normalizer((0.5,), (0.2,)), 8, 1)
    assert torch.equal(grey(pixels[0, ..., 0]), grey(Image.fromarray(pixels[0, ..., 0])))
    assert torch.equal(pickle.loads(pickle.dumps(RGB))(pixels), expected)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((9, 9, 3), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((8, 8), np.uint8),
        torch.zeros(3, 8, 8),
        torch.zeros(1, 2, 3, 8, 8, dtype=torch.uint8),
    ],
)
def test_image_transform__other_images_are_refused(image: np.ndarray | Tensor) -> None:
    with pytest.raises(ConfigError, match="takes uint8 images of 3 channels and 8 x 8 pixels, got"):
        RGB(image)


def test_pretrain__trains_a_copy_of_any_module() -> None:
    module, distilled = Foreign(), toy_set()
    before = copy.deepcopy(module.state_dict())
    trained = ds.pretrain(module, distilled, pretraining=SETTINGS)
    assert isinstance(trained, Foreign) and not trained.training
    assert equal(list(module.state_dict().values()), list(before.values()))
    assert not torch.equal(trained.head.weight, module.head.weight)
    assert torch.equal(trained.frozen, module.frozen)


def test_pretrain__module_with_dropout_resumes_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, distilled = Foreign(), toy_set()
    whole = ds.pretrain(module, distilled, pretraining=SETTINGS)
    saving = always_saving(tmp_path)
    train_step = ds.pretrain.__globals__["train_step"]
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setitem(ds.pretrain.__globals__, "train_step", killed_at(2, train_step))
        ds.pretrain(module, distilled, pretraining=SETTINGS, saving=saving)
    torch.rand(7)  # somebody else draws in between
    resumed = ds.pretrain(module, distilled, pretraining=SETTINGS, saving=saving)
    assert equal(weights(resumed), weights(whole))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Flatten(), "Flatten has no parameters to train"),
        (Foreign(outputs=4), r"returns \(2, 4\) for 2 images; .* give its last layer 5 outputs"),
        (nn.Conv2d(3, 5, 3), r"Conv2d cannot take images of shape \(1, 8, 8\)"),
    ],
)
def test_pretrain__module_that_does_not_fit_is_refused(module: nn.Module, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ds.pretrain(module, toy_set(), pretraining=SETTINGS)
