"""Conversion of foreign files to an artefact: metadata that are filled in, required or kept."""

import hashlib
from pathlib import Path

import pytest
import torch
from commands import draw_photos
from factories import NETWORK, toy_images, toy_target
from third_party_formats import LABELS, pixels, write_krr_st, write_mtt, write_res

from datastill.convert.conversion import convert
from datastill.convert.dataset_condensation import DatasetCondensation
from datastill.convert.folder import FolderFormat
from datastill.convert.format import Metadata
from datastill.convert.mtt import Mtt
from datastill.convert.selfsup_dd import SelfsupDD
from datastill.core.errors import ArtefactError, ConfigError, DataError
from datastill.core.machine import Machine
from datastill.data.source import source
from datastill.images import Normalizer
from datastill.transfer.origins import from_distilled

GREY = Normalizer((0.5,), (0.25,))


def test_convert__keeps_what_networks_saw_and_says_where_it_comes_from(tmp_path: Path) -> None:
    distilled = convert(write_res(tmp_path), DatasetCondensation())
    assert torch.equal(distilled.network_input(), pixels())
    assert torch.equal(distilled.targets, LABELS) and distilled.outputs == 4
    pictures = pixels() * torch.tensor([0.2023, 0.1994, 0.2010]).view(
        3, 1, 1
    )  # as in the other project
    pictures += torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
    assert torch.allclose(distilled.unit_pixels(), pictures.clamp(0, 1), atol=1e-6)
    origin = from_distilled(distilled, NETWORK, Machine())
    assert (origin.title, origin.source, origin.target) == ("dsa, converted (4)", "cifar10", "")


def test_convert__keeps_digests_and_who_said_what(tmp_path: Path) -> None:
    path = write_mtt(tmp_path)
    given = Metadata(source="cifar10", method="tesla")
    converted = convert(path, Mtt(zca="no"), given, data=source("cifar10"))
    kept = converted.provenance["converted"]
    assert kept["format"] == {"name": "mtt", "zca": "no"}
    assert kept["given"] == {"method": "tesla", "source": "cifar10"}
    assert kept["implied"]["pixel_space"] == "normalized" and "method" not in kept["implied"]
    digests = {file["name"]: file["sha256"] for file in kept["files"]}
    assert digests["images_100.pt"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert sorted(digests) == ["images_100.pt", "labels_100.pt"]


def test_convert__many_files_have_one_digest_that_each_of_them_changes(tmp_path: Path) -> None:
    photos = draw_photos(tmp_path / "photos", per_class=5)
    given = Metadata(source="mine", normalizer=Normalizer((0.5,) * 3, (0.25,) * 3))
    before = convert(photos, FolderFormat(8), given).provenance["converted"]["files"]
    assert len(before) == 1 and before[0]["name"] == "photos: 15 files"
    (photos / "cat" / "0.png").write_bytes((photos / "dog" / "0.png").read_bytes())
    assert convert(photos, FolderFormat(8), given).provenance["converted"]["files"] != before


def test_convert__says_what_was_filled_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convert(write_res(tmp_path), DatasetCondensation(), Metadata(method="dc"))
    message = capsys.readouterr().err
    assert "pixel_space normalized: implied by dataset-condensation" in message
    assert "what the code of dataset-condensation uses for cifar10" in message
    assert "\nmethod" not in message


def test_convert__lists_all_that_is_missing_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        convert(write_mtt(tmp_path), Mtt())
    words = str(refused.value).split()
    flags = {word for word in words if word.startswith("--")}
    assert {"--format.zca", "--data", "--mean", "--std"} <= flags
    assert not {"--pixel-space", "--target-kind", "--num-classes", "--method"} & flags


def test_convert__sets_of_other_methods_are_asked_for_pixels_and_classes(tmp_path: Path) -> None:
    folder = write_krr_st(tmp_path / "cifar100" / "dm")
    torch.save(LABELS, folder / "y_syn.pt")
    with pytest.raises(ConfigError, match=r"add --pixel-space .*; --num-classes K$"):
        convert(folder, SelfsupDD())
    given = Metadata(source="cifar100", pixel_space="raw")
    assert convert(folder, SelfsupDD(), given, data=source("cifar100")).outputs == 100


def test_convert__given_facts_win_over_the_format(tmp_path: Path) -> None:
    given = Metadata("mine", "digits", "unit", num_classes=7, normalizer=GREY)
    distilled = convert(write_mtt(tmp_path, channels=1), Mtt(zca="no"), given)
    assert (distilled.method, distilled.pixel_space, distilled.outputs) == ("mine", "unit", 7)
    assert distilled.normalizer == GREY


def test_convert__statistics_of_our_own_source_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_mtt(tmp_path, channels=1, size=16)
    digits = source("digits")
    distilled = convert(path, Mtt(zca="no"), Metadata(source="digits"), data=digits)
    assert distilled.normalizer == digits.load("train", 16).normalizer
    assert "measured on digits/train as prepared here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1, 2, 9]), "from 0 to 9"),
        (torch.tensor([-1, 0, 1, 2]), "from -1 to 2"),
        (torch.tensor([0.0, 0.5, 1.0, 2.0]), "whole numbers"),
    ],
)
def test_convert__labels_that_are_no_classes_are_refused(
    tmp_path: Path, labels: torch.Tensor, message: str
) -> None:
    path = write_mtt(tmp_path)
    torch.save(labels, tmp_path / "labels_100.pt")
    with pytest.raises(DataError, match=message):
        convert(path, Mtt(zca="no"), Metadata(source="cifar10", num_classes=4))


def test_convert__half_precision_becomes_single_and_whole_numbers_labels(tmp_path: Path) -> None:
    folder = write_krr_st(tmp_path / "cifar100" / "random")  # `test.py` casts the labels too
    torch.save(pixels().half(), folder / "x_syn.pt")
    torch.save(LABELS.float(), folder / "y_syn.pt")
    distilled = convert(folder, SelfsupDD(), Metadata(pixel_space="raw", num_classes=100))
    assert torch.equal(distilled.targets, LABELS)
    assert torch.equal(distilled.images, pixels().half().float())


def test_convert__what_does_not_fit_the_tensors_is_refused(tmp_path: Path) -> None:
    path, form = write_res(tmp_path), DatasetCondensation()
    with pytest.raises(ConfigError, match="the images have 3 channels, mean and std 1"):
        convert(path, form, Metadata(normalizer=GREY))
    with pytest.raises(ArtefactError, match=r"targets \(4,\) are no representation targets"):
        convert(path, form, Metadata(target_kind="representation"))
    with pytest.raises(ConfigError, match="dataset-condensation has its own"):
        convert(path, form, target=toy_target(toy_images()))


def test_convert__targets_of_a_folder_name_their_target_model(tmp_path: Path) -> None:
    target = toy_target(toy_images(channels=3))
    photos = draw_photos(tmp_path / "photos", per_class=2)
    distilled = convert(photos, FolderFormat(), target=target)
    assert from_distilled(distilled, NETWORK, Machine()).regresses(target)
    assert (distilled.pixel_space, distilled.normalizer) == ("unit", target.normalizer)
