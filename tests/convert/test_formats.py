"""What each format reads, implies, asks for and refuses."""

from pathlib import Path

import numpy as np
import pytest
import torch
from commands import draw_photos
from factories import toy_images, toy_target
from PIL import Image
from third_party_formats import LABELS, pixels, write_krr_st, write_mkdt, write_mtt, write_res

from datastill.convert.conversion import FORMATS, guess_format
from datastill.convert.dataset_condensation import DatasetCondensation
from datastill.convert.folder import FolderFormat
from datastill.convert.format import Format
from datastill.convert.mtt import Mtt
from datastill.convert.selfsup_dd import SelfsupDD
from datastill.core.errors import ArtefactError, ConfigError, NotFiniteError
from datastill.core.lookup import find, names


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return draw_photos(tmp_path / "photos", per_class=2)


@pytest.mark.parametrize("name", names(FORMATS))
def test_every_format__absent_and_empty_places_are_refused(name: str, tmp_path: Path) -> None:
    chosen: Format = find(FORMATS, name)()
    assert not chosen.matches(tmp_path)
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises((ArtefactError, ConfigError)):
            chosen.read(place, None)


def test_guess__file_names_tell_the_format(tmp_path: Path, photos: Path) -> None:
    formats = {
        write_res(tmp_path): DatasetCondensation(),
        write_mtt(tmp_path / "mtt"): Mtt(),
        tmp_path / "mtt": Mtt(),
        write_krr_st(tmp_path / "krr_st"): SelfsupDD(),
        tmp_path / "krr_st" / "x_syn.pt": SelfsupDD(),
        photos: FolderFormat(),
    }
    assert {path: guess_format(path) for path in formats} == formats


def test_guess__results_folder_with_pictures_is_not_taken_for_images(tmp_path: Path) -> None:
    write_res(tmp_path)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "vis_DSA.png")
    with pytest.raises(ConfigError, match=r"add --format NAME \(dataset-condensation: res_METHOD"):
        guess_format(tmp_path)


def test_dataset_condensation__name_and_contents_say_everything(tmp_path: Path) -> None:
    loaded = DatasetCondensation().read(write_res(tmp_path), None)
    facts = loaded.implied
    assert (facts.method, facts.source, facts.num_classes) == ("dsa", "cifar10", 4)
    assert (facts.pixel_space, facts.target_kind) == ("normalized", "hard-label")
    assert torch.equal(loaded.images, pixels()) and torch.equal(loaded.targets, LABELS)
    assert not loaded.missing
    for written, public in {
        "TinyImageNet": "tiny-imagenet",
        "FashionMNIST": "fashion-mnist",
    }.items():
        path = write_res(tmp_path, name=f"DM_{written}_ResNet18_AP")
        assert DatasetCondensation().read(path, None).implied.source == public
    facts = DatasetCondensation().read(path.rename(tmp_path / "mine.pt"), None).implied
    assert (facts.method, facts.source, facts.pixel_space) == (None, None, "normalized")


def test_dataset_condensation__one_of_many_experiments_must_be_chosen(tmp_path: Path) -> None:
    path = write_res(tmp_path, experiments=3)
    (missing,) = DatasetCondensation().read(path, None).missing
    assert "--format.experiment N (the file has 3, from 0 to 2)" in missing
    loaded = DatasetCondensation(experiment=2).read(path, None)
    assert torch.equal(loaded.images, pixels(seed=2)) and not loaded.missing
    with pytest.raises(ConfigError, match=r"experiment=3: .* has 3, from 0 to 2"):
        DatasetCondensation(experiment=3).read(path, None)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.ones(2), r"res\.pt has no 'data' .*is --format right"),
        ({"other": 1}, r"res\.pt has no 'data'"),
        ({"data": [torch.ones(2)]}, r"res\.pt has no 'data'"),
        ({"data": []}, "no finished experiment"),
    ],
)
def test_dataset_condensation__other_structures_are_refused(
    tmp_path: Path, value: object, message: str
) -> None:
    torch.save(value, tmp_path / "res.pt")
    with pytest.raises(ArtefactError, match=message):
        DatasetCondensation().read(tmp_path / "res.pt", None)


def test_mtt__asks_whether_images_are_whitened_and_refuses_them(tmp_path: Path) -> None:
    path = write_mtt(tmp_path)
    (missing,) = Mtt().read(path, None).missing
    assert "--format.zca no|yes" in missing
    loaded = Mtt(zca="no").read(path, None)
    assert not loaded.missing
    assert (loaded.implied.method, loaded.implied.num_classes) == ("mtt", 4)
    with pytest.raises(ArtefactError, match=r"ZCA-whitened .*convert .*images_zca_100\.pt"):
        Mtt(zca="yes").read(path, None)
    torch.save(torch.rand(4, 10).softmax(1), tmp_path / "labels_100.pt")  # an unknown relative
    loaded = Mtt().read(path, None)
    assert (loaded.implied.method, loaded.implied.target_kind) == (None, "soft-label")
    assert loaded.missing == (missing,)


def test_mtt__folder_means_the_best_step_or_the_only_one(tmp_path: Path) -> None:
    write_mtt(tmp_path, "100")
    assert Mtt().read(tmp_path, None).files[0].name == "images_100.pt"
    write_mtt(tmp_path, "200")
    with pytest.raises(ConfigError, match=r"give one file of images_100\.pt, images_200\.pt"):
        Mtt().read(tmp_path, None)
    write_mtt(tmp_path, "best")
    assert Mtt().read(tmp_path, None).files[0].name == "images_best.pt"
    torch.save(torch.rand(4, 3, 8, 8), tmp_path / "images_zca_100.pt")  # turned back from ZCA
    loaded = Mtt().read(tmp_path / "images_zca_100.pt", None)
    assert loaded.implied.pixel_space == "unit" and not loaded.missing
    assert [file.name for file in loaded.files] == ["images_zca_100.pt", "labels_100.pt"]


def test_mtt__wide_labels_are_those_of_mkdt(tmp_path: Path) -> None:
    loaded = Mtt().read(write_mkdt(tmp_path), None)
    facts = loaded.implied
    assert (facts.method, facts.target_kind) == ("mkdt", "representation")
    assert facts.num_classes is None and not loaded.missing
    mtt = Mtt().read(write_mtt(tmp_path / "mtt"), None).statistics
    assert loaded.statistics["cifar100"] != mtt["cifar100"]


@pytest.mark.parametrize(
    ("folder", "labels", "implied"),
    [
        ("tinyimagenet/krr_st", None, ("krr-st", "tiny-imagenet", "raw", "representation")),
        ("cifar100/frepo", None, ("frepo", "cifar100", None, "soft-label")),
        ("some/run", None, ("krr-st", None, "raw", "representation")),
        ("some/run", LABELS, (None, None, None, "hard-label")),
    ],
)
def test_selfsup_dd__folder_names_and_shapes_say_source_and_method(
    tmp_path: Path, folder: str, labels: torch.Tensor | None, implied: tuple[str | None, ...]
) -> None:
    path = write_krr_st(tmp_path / folder, parameters=folder == "some/run")
    if labels is not None:
        torch.save(labels, path / "y_syn.pt")
    loaded = SelfsupDD().read(path, None)
    facts = loaded.implied
    assert (facts.method, facts.source, facts.pixel_space, facts.target_kind) == implied
    for tensor in (loaded.images, loaded.targets):  # also of parameters
        assert type(tensor) is torch.Tensor and not tensor.requires_grad


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("x_syn", torch.rand(4, 3, 8, 9), r"x_syn\.pt: the images are .*8, 9\); expected square"),
        ("x_syn", torch.rand(4, 192), r"\(4, 192\); expected square"),
        ("x_syn", torch.zeros(4, 3, 8, 8, dtype=torch.uint8), "torch.uint8"),
        ("x_syn", torch.rand(0, 3, 8, 8), "do not fit 0 images"),
        ("x_syn", torch.full((4, 3, 8, 8), torch.nan), r"x_syn\.pt: the images .* not finite"),
        ("x_syn", ["images"], "the images are a list, not a tensor"),
        ("y_syn", torch.full((4, 6), torch.inf), r"y_syn\.pt: the labels .* not finite"),
        ("y_syn", torch.arange(5), r"y_syn\.pt: targets \(5,\) do not fit 4 images"),
        ("y_syn", None, r"no file .*y_syn\.pt"),
    ],
)
def test_every_format__tensors_that_make_no_set_are_named_with_their_file(
    tmp_path: Path, name: str, value: object, message: str
) -> None:
    folder = write_krr_st(tmp_path)
    (folder / f"{name}.pt").unlink()
    if value is not None:
        torch.save(value, folder / f"{name}.pt")
    with pytest.raises((ArtefactError, NotFiniteError), match=message):
        SelfsupDD().read(folder, None)


def test_folder__class_folders_are_hard_labels_and_no_image_is_held_out(photos: Path) -> None:
    loaded = FolderFormat(image_size=8).read(photos, None)
    assert loaded.targets.tolist() == [0, 0, 1, 1, 2, 2]
    assert loaded.implied.num_classes == 3 and loaded.images.shape == (6, 3, 8, 8)
    brightest = loaded.images.mean((2, 3)).argmax(1)  # each class has a color of its own
    assert torch.equal(brightest, loaded.targets)


def test_folder__size_is_asked_where_the_files_do_not_agree(photos: Path, tmp_path: Path) -> None:
    (missing,) = FolderFormat().read(photos, None).missing
    assert "--format.image_size N" in missing
    Image.fromarray(np.full((9, 9, 3), 51, np.uint8)).save(tmp_path / "one.png")
    for file in photos.rglob("*.png"):
        file.unlink()
    loaded = FolderFormat().read(tmp_path, None)
    assert loaded.images.shape == (1, 3, 9, 9) and torch.allclose(loaded.images, torch.tensor(0.2))
    assert len(loaded.missing) == 1 and loaded.missing[0].startswith("--target DIR")


def test_folder__target_model_makes_the_targets(photos: Path) -> None:
    images = toy_images(channels=3, size=8)
    target = toy_target(images, outputs=5)
    loaded = FolderFormat().read(photos, target)
    assert loaded.implied.target_kind == "representation" and loaded.implied.source == "toy"
    again = target.represent(target.normalizer(loaded.images))
    assert torch.allclose(loaded.targets, again, atol=1e-6)


def test_folder__damaged_image_and_files_at_several_depths_are_refused(photos: Path) -> None:
    file = photos / "cat" / "0.png"
    file.write_text("no image")
    with pytest.raises(ArtefactError, match=r"0\.png is no image"):
        FolderFormat().read(photos, None)
    file.rename(photos / "loose.png")
    with pytest.raises(ArtefactError, match="expected all images in the folder itself, or all in"):
        FolderFormat().read(photos, None)
