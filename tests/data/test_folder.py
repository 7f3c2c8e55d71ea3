from pathlib import Path

import numpy as np
import pytest
import torch
from archives import random_images, save_image
from PIL import Image

from datastill.data._base import source
from datastill.data._check import prepare
from datastill.data.folder import Folder
from datastill.ground.errors import DataError, DataWarning


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


def fill(folder: Path, count: int, *, seed: int = 0, suffix: str = "png") -> list[Path]:
    """Save `count` random 12 x 12 pictures."""
    files = [folder / f"{i:03d}.{suffix}" for i in range(count)]
    for file, image in zip(files, random_images(count, 12, seed=seed), strict=True):
        save_image(file, image)
    return files


def load(root: Path, split: str = "train", image_size: int = 8):
    return Folder(str(root)).load(split, image_size)


def test_folder__flat_folder_has_no_labels(root: Path) -> None:
    fill(root, 5)
    images = load(root)
    assert len(images) == 5
    assert images.labels is None


def test_folder__flat_folder_has_no_test_split(root: Path) -> None:
    fill(root, 5)
    with pytest.raises(DataError, match=r"no test images; it needs train/CLASS/IMAGE"):
        load(root, "test")


def test_folder__flat_folder_prepares_its_only_split(root: Path) -> None:
    fill(root, 5)
    assert [(row.split, row.count) for row in prepare(Folder(str(root)), 8)] == [("train", 5)]


def test_folder__nested_folders_are_one_unlabelled_split(root: Path) -> None:
    fill(root / "2020" / "may", 2)
    fill(root / "2021", 3)
    images = load(root)
    assert len(images) == 5
    assert images.labels is None


def test_folder__class_folders_are_split_80_to_20_in_each_class(root: Path) -> None:
    fill(root / "cat", 20)
    fill(root / "dog", 10)
    assert torch.bincount(load(root).labels).tolist() == [16, 8]
    assert torch.bincount(load(root, "test").labels).tolist() == [4, 2]


def test_folder__class_split_does_not_overlap(root: Path) -> None:
    fill(root / "cat", 10, seed=1)
    fill(root / "dog", 10, seed=2)
    train, test = load(root).images, load(root, "test").images
    equal = (train[:, None] == test[None]).flatten(2).all(2)
    assert not equal.any()


def test_folder__class_split_does_not_depend_on_other_classes(root: Path) -> None:
    fill(root / "cat", 10, seed=1)
    fill(root / "dog", 10, seed=2)
    before = load(root, "test").images[:2].clone()
    fill(root / "emu", 10, seed=3)
    assert torch.equal(load(root, "test").images[:2], before)


def test_folder__class_of_one_image_is_for_training(root: Path) -> None:
    fill(root / "cat", 10)
    fill(root / "rare", 1)
    assert 1 in load(root).labels
    assert 1 not in load(root, "test").labels


def test_folder__classes_are_sorted_folder_names(root: Path) -> None:
    fill(root / "train" / "dog", 2)
    fill(root / "train" / "cat", 3)
    images = load(root)
    assert images.classes == ("cat", "dog")
    assert images.labels.tolist() == [0, 0, 0, 1, 1]


def test_folder__train_and_test_folders_are_the_splits(root: Path) -> None:
    for split, count in {"train": 3, "test": 2}.items():
        fill(root / split / "cat", count)
        fill(root / split / "dog", count)
    assert (len(load(root)), len(load(root, "test"))) == (6, 4)


def test_folder__train_may_be_a_class(root: Path) -> None:
    fill(root / "car", 5)
    fill(root / "train", 5)
    assert load(root).classes == ("car", "train")


def test_folder__test_class_that_train_lacks_is_refused(root: Path) -> None:
    fill(root / "train" / "cat", 2)
    fill(root / "train" / "dog", 2)
    fill(root / "test" / "emu", 2)
    with pytest.raises(DataError, match="test has classes that train has not: emu"):
        load(root)


def test_folder__flat_test_beside_labelled_train_is_refused(root: Path) -> None:
    fill(root / "train" / "cat", 2)
    fill(root / "train" / "dog", 2)
    fill(root / "test", 2)
    with pytest.raises(DataError, match="train has class folders, so test needs"):
        load(root)


def test_folder__missing_test_folder_says_which_layout_is_needed(root: Path) -> None:
    fill(root / "train" / "cat", 2)
    fill(root / "train" / "dog", 2)
    with pytest.raises(DataError, match="test/CLASS/IMAGE"):
        load(root, "test")


def test_folder__flat_train_and_test_have_no_labels(root: Path) -> None:
    fill(root / "train", 3)
    fill(root / "test", 2)
    assert load(root, "test").labels is None
    assert (len(load(root)), len(load(root, "test"))) == (3, 2)


def test_folder__empty_folder_names_the_suffixes(root: Path) -> None:
    (root / "readme.txt").write_text("no image")
    with pytest.raises(DataError, match=r"holds no images \(files ending in \.jpg, \.jpeg, \.png"):
        load(root)


def test_folder__missing_folder_is_named(root: Path) -> None:
    with pytest.raises(DataError, match=r"there is no folder .*/nowhere"):
        load(root / "nowhere")


def test_folder__image_size_is_needed(root: Path) -> None:
    fill(root, 2)
    with pytest.raises(DataError, match="folder:photos needs --image-size"):
        Folder(str(root)).load()


def test_folder__without_path_asks_which() -> None:
    with pytest.raises(DataError, match="which folder"):
        Folder().load("train", 8)


def test_folder__hidden_and_other_files_are_ignored(root: Path) -> None:
    files = fill(root, 3)
    (root / ".thumbnails").mkdir()
    (root / ".thumbnails" / "a.png").write_bytes(files[0].read_bytes())
    (root / "._000.png").write_bytes(b"resource fork")
    (root / "labels.csv").write_text("a,b")
    assert len(load(root)) == 3


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "png", "bmp", "gif", "webp", "tif", "ppm"])
def test_folder__format_is_read(root: Path, suffix: str) -> None:
    fill(root, 1, suffix=suffix)
    if suffix != "gif":  # gif has a palette: that it is converted is said below
        assert len(load(root)) == 1
        return
    with pytest.warns(DataWarning, match="1 of 1"):
        assert len(load(root)) == 1


def test_folder__corrupt_file_is_skipped_and_named(root: Path) -> None:
    files = fill(root, 100)
    files[7].write_bytes(files[7].read_bytes()[:60])
    with pytest.warns(DataWarning, match=r"1 of 100 images .* cannot be read: 007\.png"):
        assert len(load(root)) == 99


def test_folder__corrupt_file_does_not_shift_labels(root: Path) -> None:
    files = fill(root / "train" / "cat", 70) + fill(root / "train" / "dog", 50)
    files[7].write_bytes(b"")
    with pytest.warns(DataWarning, match="cannot be read"):
        assert torch.bincount(load(root).labels).tolist() == [69, 50]


def test_folder__more_than_one_percent_corrupt_is_refused(root: Path) -> None:
    files = fill(root, 100)
    files[7].write_bytes(b"")
    files[8].write_bytes(b"")
    with pytest.raises(DataError, match="more than 1% is too many"):
        load(root)


def test_folder__image_bomb_is_skipped(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = fill(root, 100)
    save_image(files[0], random_images(1, 64)[0])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.warns(DataWarning, match=r"cannot be read: 000\.png"):
        assert len(load(root)) == 99


def test_folder__converted_images_are_counted_in_one_warning(root: Path) -> None:
    fill(root, 2)
    save_image(root / "grey.png", random_images(1, 12)[0, 0])
    Image.new("RGBA", (12, 12), (0, 0, 0, 0)).save(root / "clear.png")
    with pytest.warns(DataWarning, match="2 of 4 images .* are not RGB") as caught:
        images = load(root)
    assert len(caught) == 1
    assert images.channels == 3


def test_folder__transparent_pixels_become_white(root: Path) -> None:
    Image.new("RGBA", (12, 12), (0, 0, 0, 0)).save(root / "clear.png")
    with pytest.warns(DataWarning):
        assert (load(root).images == 255).all()


def test_folder__sixteen_bit_grey_is_scaled(root: Path) -> None:
    Image.fromarray(np.full((12, 12), 128 * 257, np.uint16)).save(root / "deep.png")
    with pytest.warns(DataWarning):
        assert (load(root).images == 128).all()


def test_folder__wide_image_is_cropped_at_the_centre(root: Path) -> None:
    wide = np.zeros((3, 8, 24), np.uint8)
    wide[:, :, 8:16] = 200
    save_image(root / "wide.png", wide)
    assert (load(root).images == 200).all()


def test_folder__image_of_the_wanted_size_keeps_its_bytes(root: Path) -> None:
    fill(root, 3)
    expected = torch.from_numpy(random_images(3, 12))
    assert torch.equal(load(root, image_size=12).images, expected)


def test_folder__rotated_photograph_is_turned_upright(root: Path) -> None:
    image = random_images(1, 12)[0]
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    Image.fromarray(image.transpose(1, 2, 0)).save(root / "turned.png", exif=exif)
    upright = torch.from_numpy(image[:, ::-1, ::-1].copy())
    assert torch.equal(load(root, image_size=12).images[0], upright)


def test_folder__edited_image_makes_the_cache_stale(root: Path) -> None:
    files = fill(root, 3)
    before = load(root).fingerprint
    save_image(files[1], random_images(1, 16, seed=9)[0])
    assert load(root).fingerprint != before


def test_folder__deleted_folder_is_not_read_from_the_cache(root: Path) -> None:
    files = fill(root, 1)
    load(root)
    files[0].unlink()
    root.rmdir()
    with pytest.raises(DataError, match="there is no folder"):
        load(root)


def test_folder__two_folders_do_not_share_a_cache(tmp_path: Path) -> None:
    fill(tmp_path / "a" / "same", 2, seed=1)
    fill(tmp_path / "b" / "same", 2, seed=2)
    first, second = (tmp_path / name / "same" for name in "ab")
    load(first)
    load(second)
    assert Folder(str(first)).prepared("train", 8) != Folder(str(second)).prepared("train", 8)


def test_source__folder_takes_its_path_after_the_colon(root: Path) -> None:
    assert source(f"folder:{root}") == Folder(str(root))


def test_folder__name_has_the_last_part_of_the_path(root: Path) -> None:
    fill(root, 1)
    assert load(root).name == "folder:photos/train"
