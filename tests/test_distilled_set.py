"""The artefact: opens with safetensors alone, and nothing damaged ever passes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader

from datastill.core.errors import ArtefactError, NotFiniteError
from datastill.core.rng import fork
from datastill.distilled_set import FORMAT_VERSION, DistilledSet, PixelSpace
from datastill.images import Normalizer
from datastill.picture_grid import picture_grid

NORMALIZER = Normalizer((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


def a_set(**changes: Any) -> DistilledSet:
    generator = fork(0, "artefact")
    plain = DistilledSet(
        torch.rand(6, 3, 8, 8, generator=generator),
        torch.randn(6, 5, generator=generator),
        "representation",
        "unit",
        NORMALIZER,
        {"method": {"name": "toy", "variant": ""}, "num_classes": 4, "seed": 0},
    )
    return replace(plain, **changes)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    a_set().save(tmp_path / "distilled.safetensors")
    return tmp_path / "distilled.safetensors"


def rewrite(file: Path, **metadata: str) -> None:
    """The same tensors under other metadata; the SHA-256 no longer fits."""
    with safetensors.safe_open(file, framework="pt") as opened:
        all_metadata = {**opened.metadata(), **metadata}
    save_file(load_file(file), file, metadata=all_metadata)


def test_artefact__safetensors_alone_suffice_to_use_it(file: Path) -> None:
    with safetensors.safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
        images, targets = opened.get_tensor("images"), opened.get_tensor("targets")
    assert metadata["sha256"] == a_set().fingerprint
    assert torch.equal(images, a_set().images) and torch.equal(targets, a_set().targets)
    assert metadata["pixel_space"] == "unit"
    statistics = {
        k: torch.tensor(v)[:, None, None] for k, v in json.loads(metadata["normalizer"]).items()
    }
    by_hand = (images - statistics["mean"]) / statistics["std"]
    torch.testing.assert_close(by_hand, a_set().network_input())
    assert json.loads(metadata["provenance"]) == a_set().provenance
    assert metadata["target_kind"] == "representation" and metadata["image_size"] == "8"


def test_artefact__comes_back_as_it_was(file: Path) -> None:
    loaded, saved = DistilledSet.load(file.parent), a_set()
    assert loaded.fingerprint == saved.fingerprint
    assert torch.equal(loaded.images, saved.images) and torch.equal(loaded.targets, saved.targets)
    assert loaded.describe() == saved.describe()
    assert loaded.normalizer == saved.normalizer


@pytest.mark.parametrize(
    "changes",
    [
        {"images": a_set().images + 1e-6},
        {"targets": a_set().targets + 1e-6},
        {"pixel_space": "raw"},
        {"normalizer": Normalizer((0.5, 0.4, 0.3), (0.2, 0.25, 0.31))},
        {"provenance": {"seed": 1}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_artefact__fingerprint_covers_everything(changes: dict[str, Any]) -> None:
    assert a_set(**changes).fingerprint != a_set().fingerprint


def test_artefact__writes_a_picture_for_people(file: Path) -> None:
    with Image.open(file.with_name("preview.png")) as picture:
        assert picture.mode == "RGB" and min(picture.size) > 2 * 48


def with_bad(tensor: Tensor, bad: float) -> Tensor:
    broken = tensor.clone()
    broken.view(-1)[3] = bad
    return broken


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("part", ["images", "targets"])
def test_artefact__value_that_is_not_finite_is_refused(part: str, bad: float) -> None:
    with pytest.raises(NotFiniteError, match=f"the distilled {part} have values"):
        a_set(**{part: with_bad(getattr(a_set(), part), bad)})


@pytest.mark.parametrize(
    "changes",
    [
        {"images": torch.zeros(6, 3, 8, 7)},
        {"images": torch.zeros(6, 3, 8, 8, dtype=torch.uint8)},
        {"images": torch.zeros(5, 3, 8, 8)},
        {"images": torch.zeros(6, 1, 8, 8)},
        {"normalizer": Normalizer((0.5,) * 3, (0.2, 0.0, 0.2))},
        {"normalizer": Normalizer((0.5, float("nan"), 0.5), (0.2,) * 3)},
        {"targets": torch.zeros(6)},
        {"targets": torch.zeros(6, dtype=torch.int64)},
        {"target_kind": "hard-label"},
        {"target_kind": "logits"},
        {"pixel_space": "lab"},
        {"images": torch.zeros(0, 3, 8, 8), "targets": torch.zeros(0, 5)},
    ],
    ids=str,
)
def test_artefact__parts_that_do_not_fit_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ArtefactError):
        a_set(**changes)


def test_artefact__hard_labels_have_as_many_outputs_as_classes() -> None:
    hard = a_set(targets=torch.arange(6) % 3, target_kind="hard-label")
    assert hard.outputs == 4 and a_set().outputs == 5


def test_artefact__works_in_a_data_loader_and_can_be_indexed() -> None:
    batches, whole = list(DataLoader(a_set(), batch_size=4)), a_set().network_input()
    assert [x.shape[0] for x, _ in batches] == [4, 2] and len(list(a_set())) == 6
    torch.testing.assert_close(torch.cat([x for x, _ in batches]), whole)
    assert torch.equal(torch.cat([y for _, y in batches]), a_set().targets)
    for index in (2, -1, slice(1, 4)):
        inputs, targets = a_set()[index]
        assert torch.equal(inputs, whole[index])
        assert torch.equal(targets, a_set().targets[index])


@pytest.mark.parametrize(
    "provenance",
    [
        [],
        {"method": "toy", "num_classes": 4},
        {"method": {"name": 3}, "num_classes": 4},
        {"method": {"name": "toy"}, "num_classes": 3},
        {"method": {"name": "toy"}, "num_classes": "4"},
    ],
)
def test_load__provenance_that_does_not_fit_is_refused(tmp_path: Path, provenance: Any) -> None:
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    file = tmp_path / "distilled.safetensors"
    a_set(targets=labels, target_kind="hard-label", provenance=provenance).save(file)
    with pytest.raises(ArtefactError):
        DistilledSet.load(file)


def test_artefact__pictures_are_clipped_but_network_input_is_not() -> None:
    loud = a_set(images=3 * a_set().images - 1)
    assert loud.unit_pixels().min() == 0 and loud.unit_pixels().max() == 1
    assert torch.equal(NORMALIZER.inverse(loud.network_input()).lt(0), loud.images.lt(0))


@pytest.mark.parametrize("channels", [2, 5])
def test_picture_grid__draws_any_number_of_channels(channels: int) -> None:
    assert picture_grid(torch.rand(3, channels, 4, 4), columns=2, scale=1).mode == "RGB"


@pytest.mark.parametrize("channels", [1, 3])
def test_picture_grid__shows_every_pixel(channels: int) -> None:
    images = torch.rand(3, channels, 4, 4, generator=fork(0, "grid"))
    picture = picture_grid(images, columns=2, scale=1)
    assert picture.size == (14, 14)
    red = torch.tensor(list(picture.getchannel("R").tobytes())).view(14, 14)
    assert torch.equal(red[8:12, 2:6], (images[2, 0] * 255).round().long())


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format_version": str(FORMAT_VERSION + 1)}, "version 3, .* up to 2; update datastill"),
        ({"format_version": "one"}, "format version"),
        ({"format_version": "-1"}, "format version"),
        ({"format": "datastill.target-model"}, r"distilled\.safetensors is a target model"),
        ({"pixel_space": "raw"}, "damaged: its contents have SHA-256"),
    ],
    ids=str,
)
def test_artefact__changed_metadata_are_refused(
    file: Path, metadata: dict[str, str], message: str
) -> None:
    rewrite(file, **metadata)
    with pytest.raises(ArtefactError, match=message):
        DistilledSet.load(file)


def test_artefact__other_files_are_refused(tmp_path: Path) -> None:
    save_file({"images": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    (tmp_path / "notes.txt").write_text("no tensors here, but many words")
    with pytest.raises(ArtefactError, match=r"foreign\.safetensors is a file of another program"):
        DistilledSet.load(tmp_path / "foreign.safetensors")
    with pytest.raises(ArtefactError, match="no safetensors file"):
        DistilledSet.load(tmp_path / "notes.txt")
    with pytest.raises(ArtefactError, match=r"there is no file .*distilled\.safetensors"):
        DistilledSet.load(tmp_path)


@pytest.mark.parametrize("space", ["unit", "normalized", "raw"])
def test_artefact__only_unit_pixels_are_normalized_for_networks(space: PixelSpace) -> None:
    unit = a_set().images
    distilled = a_set(images=NORMALIZER(unit) if space == "normalized" else unit, pixel_space=space)
    fed = NORMALIZER(unit) if space == "unit" else distilled.images
    assert torch.equal(distilled.network_input(), fed)
    torch.testing.assert_close(distilled.unit_pixels(), unit)
