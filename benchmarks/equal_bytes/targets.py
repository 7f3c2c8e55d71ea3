"""The strong target models of these benchmarks, and the images that they are used on.

The outputs of both are the first 128 principal components of standardised features, divided by one
number so that their mean square on the source is 1.
"""

import json
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0 import MEAN_AND_STD, EfficientNetLite0
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import datastill as ds
from datastill.core.atomic import atomic_write
from datastill.transfer.task import TaskData

OUTPUTS = 128
FITTED_ON = 10_000  # source images
PACKS = {
    "cifar100": "cifar100_q95",
    "cifar10": "cifar10_q95",
    "cub100": "cub100_32_lossless",
    "tiny": "tinyimagenet64_subset_q95",
}


class Projected(nn.Module):
    """Standardise the features of a body and project them."""

    def __init__(self, body: nn.Module, offset: Tensor, projection: Tensor) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("offset", offset)  # (F,)
        self.register_buffer("projection", projection)  # (F, 128)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, 128)
        return (self.body(x).float() - self.offset) @ self.projection


def load_images(packs: Path, name: str, split: str) -> ds.ImageSet:
    """Load a split of a pack that was unpacked into arrays, normalized by its training split."""
    folder = packs / PACKS[name]

    def pixels(split: str) -> Tensor:
        array = np.load(folder / f"{split}_images.npy", mmap_mode="r")
        return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))

    train = pixels("train")
    labels = torch.from_numpy(np.load(folder / f"{split}_labels.npy")).long()
    classes = tuple(map(str, json.loads((folder / "classes.json").read_text())))
    images = train if split == "train" else pixels(split)
    return ds.ImageSet(f"{name}/{split}", images, ds.Normalizer.of(train), labels, classes)


def load_task(packs: Path, name: str) -> TaskData:
    """Load both splits of a pack."""
    return TaskData(name, load_images(packs, name, "train"), load_images(packs, name, "test"))


def load_target(name: str, source: ds.ImageSet, work: Path, machine: ds.Machine) -> ds.TargetModel:
    """Return `efficientnet-lite0`, or the target model in a folder, with 128 outputs.

    Args:
        name: "efficientnet-lite0", or the folder that `datastill target` made.
        source: Images that the components are fitted on.
        work: Keeps the components.
        machine: Device and precision.
    """
    if name == "efficientnet-lite0":
        body: nn.Module = EfficientNetLite0()
        normalizer = ds.Normalizer((MEAN_AND_STD,) * 3, (MEAN_AND_STD,) * 3)
        plain = ds.TargetModel(body, normalizer, source.image_size, machine=machine)
    else:
        plain = ds.TargetModel.load(name, machine)
        body, normalizer = plain.module, plain.normalizer
    file = work / f"components-{plain.fingerprint[:16]}-{source.fingerprint[:16]}.safetensors"
    if not file.is_file():
        features = plain.represent_images(source.limit(FITTED_ON, seed=0)).double()
        mean, std = features.mean(0), features.std(0).clamp_min(1e-6)
        standardised = (features - mean) / std
        axes = torch.linalg.svd(standardised, full_matrices=False).Vh[:OUTPUTS].T  # (F, 128)
        scale = (standardised @ axes).square().mean().sqrt()
        projection = axes / std[:, None] / scale
        fitted = {"offset": mean.float(), "projection": projection.float().contiguous()}
        with atomic_write(file) as part:  # another process may be looking for it
            save_file(fitted, part)
    fitted = load_file(file)
    module = Projected(body, fitted["offset"], fitted["projection"])
    label = name if name == "efficientnet-lite0" else "barlow-twins"
    return ds.TargetModel(
        module, normalizer, source.image_size, provenance={"name": label}, machine=machine
    )
