import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from archives import random_images, save_image
from PIL import Image

from datastill.core.errors import DataError, DataWarning
from datastill.data.check import prepare
from datastill.data.folder import ImageFolderSource
from datastill.data.source import source


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
    return ImageFolderSource(str(root)).load(split, image_size)


@pytest.mark.parametrize("folders", [(".", "."), ("2020/may", "2021")])
def test_folder__images_at_one_or_many_depths_are_one_split_without_labels(
    root: Path, folders: tuple[str, str]
) -> None:
    fill(root / folders[0], 2)
    fill(root / folders[1], 5)
    splits = prepare(ImageFolderSource(str(root)), 8)
    assert splits.keys() == {"train"} and len(splits["train"]) in (5, 7)
    assert load(root).labels is None and load(root).name == "folder:photos/train"
    with pytest.raises(DataError, match=r"no test images; it needs train/CLASS/IMAGE and test/"):
        load(root, "test")


def test_folder__a_fifth_of_each_class_is_for_testing_whatever_the_others_are(root: Path) -> None:
    fill(root / "train", 20, seed=1)  # may be a class, where it has no folders
    fill(root / "dog", 10, seed=2)
    fill(root / "rare", 1, seed=3)
    train, test = load(root), load(root, "test")
    assert train.classes == test.classes == ("dog", "rare", "train")
    assert torch.bincount(train.labels).tolist() == [8, 1, 16]
    assert torch.bincount(test.labels, minlength=3).tolist() == [2, 0, 4]
    equal = (train.images[:, None] == test.images[None]).flatten(2).all(2)
    assert not equal.any()
    before = test.images.clone()
    fill(root / "aardvark", 10, seed=4)
    assert torch.equal(load(root, "test").images[2:], before)


def test_folder__train_and_test_folders_are_the_splits(root: Path) -> None:
    for split, count in {"train": 3, "test": 2}.items():
        fill(root / split / "dog", count)
        fill(root / split / "cat", count + 1)
    assert load(root).classes == ("cat", "dog")
    assert load(root).labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert load(root, "test").labels.tolist() == [0, 0, 0, 1, 1]
    fill(root.parent / "flat" / "train", 3)
    fill(root.parent / "flat" / "test", 2)
    flat = load(root.parent / "flat", "test")
    assert len(flat) == 2 and flat.labels is None


TWO = "train/cat/2 train/dog/2"
UNUSUAL = {  # how many pictures in which folders, what is said, and what is said of test data
    "cat/3 dog/3 ./1": ("read without labels: 000.png is not directly in a class", "no test"),
    "train/a/b/c/2": ("read without labels: train has folders in its class folders", "no test"),
    "cat/3 dog/3 emu/0": ("emu is empty and no class", ""),
    "cat/3 dog/3 run1/1": ("run1 is left out, as a run folder of datastill", ""),
    f"{TWO} val/cat/2": ("has no folder test and is tested on val", ""),
    f"{TWO} val/cat/2 test/cat/2": ("beside train, val not read", ""),
    f"{TWO} test/emu/2": ("test is not read", "test has classes that train has not: emu"),
    f"{TWO} test/2": (
        "test is not read, because test has no class",
        "test has no class folders as train has",
    ),
}


@pytest.mark.parametrize("layout", UNUSUAL)
def test_folder__what_is_not_read_is_said(root: Path, layout: str) -> None:
    for folder, _, count in (word.rpartition("/") for word in layout.split()):
        (root / folder).mkdir(parents=True, exist_ok=True)
        fill(root / folder, int(count))
    if (root / "run1").exists():
        for name in ("config.yaml", "environment.json"):
            (root / "run1" / name).touch()
    warning, refusal = UNUSUAL[layout]
    with pytest.warns(DataWarning, match=warning):
        assert load(root).classes == (() if "without labels" in warning else ("cat", "dog"))
    with pytest.raises(DataError, match=refusal) if refusal else pytest.warns(DataWarning):
        assert len(load(root, "test")) == 2


def test_folder__class_names_of_both_unicode_forms_are_one_class_and_any_bytes_a_name(
    root: Path,
) -> None:
    for split, name in (("train", "\u00e9"), ("test", "e\u0301")):
        fill(root / split / name, 2)
        fill(root / split / "tea", 2)
    fill(root / "train" / os.fsdecode(b"\xe9"), 2)
    assert load(root, "test").classes == ("tea", "\u00e9", "\ufffd")


def test_folder__linked_class_folder_is_followed_and_a_loop_is_not(root: Path) -> None:
    fill(root / "cat", 3)
    fill(root.parent / "elsewhere", 4)
    (root / "dog").symlink_to(root.parent / "elsewhere")
    (root / "cat" / "again").symlink_to(root)
    assert load(root).classes == ("cat", "dog")


def test_folder__path_and_image_size_are_needed(root: Path) -> None:
    fill(root, 2)
    with pytest.raises(DataError, match="folder:photos needs --image-size"):
        source(f"folder:{root}").load()
    with pytest.raises(DataError, match="which folder"):
        source("folder").load("train", 8)


def test_folder__empty_folder_names_the_suffixes(root: Path) -> None:
    (root / "readme.txt").write_text("no image")
    with pytest.raises(DataError, match=r"holds no images \(files ending in \.jpg, \.jpeg, \.png"):
        load(root)


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


def test_folder__corrupt_file_is_skipped_and_named_whenever_it_is_loaded(root: Path) -> None:
    files = fill(root / "train" / "cat", 70) + fill(root / "train" / "dog", 50)
    files[7].write_bytes(b"")
    for _ in range(2):
        with pytest.warns(DataWarning, match=r"1 of 120 .*cat/007\.png \(the first: it is damaged"):
            assert torch.bincount(load(root).labels).tolist() == [69, 50]
    files[8].write_bytes(b"")
    with pytest.raises(DataError, match="more than 1% is too many"):
        load(root)


def test_folder__failure_of_the_system_is_no_damaged_image(root: Path, monkeypatch) -> None:
    files, opened = fill(root, 100), Image.open

    def stale(file: Path, **options: object) -> Image.Image:
        if file == files[7]:
            raise OSError(errno.ESTALE, "Stale file handle")
        return opened(file, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Image, "open", stale)
        with pytest.raises(DataError, match=r"007\.png cannot be read: Stale file handle"):
            load(root)
    assert len(load(root)) == 100


def too_large(file: Path) -> None:
    save_image(file, random_images(1, 64)[0])


def float_values(file: Path) -> None:
    Image.fromarray(np.random.default_rng(0).random((12, 12), np.float32)).save(file, "TIFF")


def twelve_bits(file: Path) -> None:
    Image.fromarray(np.full((12, 12), 4095, np.uint16)).save(file)


def pages(file: Path) -> None:
    picture = Image.new("RGB", (12, 12))
    picture.save(file, "TIFF", save_all=True, append_images=[picture])


def four_bands(file: Path) -> None:
    Image.new("CMYK", (12, 12)).save(file, "TIFF", tiffinfo={262: 2})


def postscript(file: Path) -> None:
    file.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (too_large, "it has 64 x 64 pixels, more than 4,000"),
        (float_values, "mode F, whose range is unknown; save it with 8 bits"),
        (twelve_bits, "16-bit values end at 4095: scale them to 65535"),
        (pages, "it has 2 pages"),
        (four_bands, "it has 4 bands; save the three"),
        (postscript, "it is damaged, or of a format that is not read"),
        (os.mkfifo, "it is no regular file"),
        (lambda file: file.symlink_to("nowhere"), "it is missing or a link to nowhere"),
    ],
)
def test_folder__file_that_cannot_be_an_image_is_skipped_with_a_reason(
    root: Path, write: Callable[[Path], object], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = fill(root, 100)
    files[0].unlink()
    write(files[0])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    monkeypatch.setattr(subprocess, "check_call", pytest.fail)  # how Pillow runs Ghostscript
    with pytest.warns(DataWarning, match=rf"cannot be read: 000\.png \(the first: .*{reason}"):
        assert len(load(root)) == 99


def test_folder__converted_images_are_counted_in_one_warning(root: Path) -> None:
    fill(root, 2)
    save_image(root / "grey.png", random_images(1, 12)[0, 0])
    Image.new("RGBA", (12, 12), (0, 0, 0, 0)).save(root / "clear.png")
    with pytest.warns(DataWarning, match="2 of 4 images .* are not RGB") as caught:
        images = load(root)
    assert len(caught) == 1
    assert images.channels == 3
    assert (images.images[2] == 255).all()  # transparent pixels become white


def test_folder__sixteen_bit_grey_is_scaled(root: Path) -> None:
    Image.fromarray(np.full((12, 12), 128 * 257, np.uint16)).save(root / "deep.png")
    with pytest.warns(DataWarning):
        assert (load(root).images == 128).all()


def test_folder__wide_image_is_cropped_at_the_centre(root: Path) -> None:
    wide = np.zeros((3, 8, 24), np.uint8)
    wide[:, :, 8:16] = 200
    save_image(root / "wide.png", wide)
    with pytest.warns(DataWarning, match="1 of 1 .* more than 2 times .* central square was cut"):
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


def test_folder__deleted_folder_is_not_read_from_the_cache(root: Path) -> None:
    files = fill(root, 1)
    load(root)
    files[0].unlink()
    root.rmdir()
    with pytest.raises(DataError, match="there is no folder"):
        load(root)
