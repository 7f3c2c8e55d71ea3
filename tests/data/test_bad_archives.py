"""What every reader of an official archive says of a bad one: the file, and the next step."""

import re
from collections.abc import Callable
from pathlib import Path

import pooch
import pytest
from archives import random_images, save_image, write_archive, write_lines, write_mat, write_records
from scipy.io import loadmat

from datastill.core.errors import ChecksumError, DataError
from datastill.data.source import source

PACKED = {
    "aircraft": ("fgvc-aircraft-2013b.tar.gz", "data"),
    "cars": ("car_ims.tgz", "car_ims"),
    "cifar10": ("cifar-10-binary.tar.gz", "test_batch.bin"),
    "cifar100": ("cifar-100-binary.tar.gz", "test.bin"),
    "cub": ("CUB_200_2011.tgz", "images"),
    "dogs": ("images.tar", "Images"),
    "flowers": ("102flowers.tgz", "jpg"),
    "tiny-imagenet": ("tiny-imagenet-200.zip", "wnids.txt"),
}
every_reader = pytest.mark.parametrize("name", PACKED)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here may reach the network, even where there is one."""

    def refuse(url: str, *_: object, **__: object) -> str:
        raise ConnectionError(url)

    monkeypatch.setattr(pooch, "retrieve", refuse)


def load(name: str, split: str, root: Path) -> None:
    source(name).load(split, 16, root)


def cut(file: Path, count: int) -> None:
    file.write_bytes(file.read_bytes()[:-count])


def drop_line(file: Path) -> None:
    write_lines(file, file.read_text().splitlines()[:-1])


def change_mat(file: Path, **changes: Callable) -> None:
    content = {k: v for k, v in loadmat(file).items() if not k.startswith("__")}
    write_mat(file, content | {name: change(content[name]) for name, change in changes.items()})


def extra(file: Path) -> None:
    save_image(file, random_images(1)[0])


BAD: dict[str, tuple[Callable[[Path], object], str]] = {  # DATA-FAULT: how, what is then said
    "cifar10-half-record": (
        lambda r: cut(r / "data_batch_3.bin", 1),
        r"data_batch_3\.bin has 12291 bytes, .* 3073; extract",
    ),
    "cifar10-extra-batch": (
        lambda r: (r / "data_batch_6.bin").write_bytes(bytes(3073)),
        r"data_batch_6\.bin is not among the files of cifar10; remove",
    ),
    "cifar10-label": (
        lambda r: write_records(r / "test_batch.bin", random_images(1), [10], label_bytes=1),
        r"test_batch\.bin: labels run from 10 to 10, but the 10 classes .* extract",
    ),
    "cifar10-class-names": (
        lambda r: drop_line(r / "batches.meta.txt"),
        r"batches\.meta\.txt has 9 class names, not 10; extract",
    ),
    "cifar100-binary-class-names": (
        lambda r: (r / "fine_label_names.txt").write_bytes(b"\xff\xfe\x00"),
        r"fine_label_names\.txt cannot be read as text",
    ),
    "tiny_imagenet-unknown-wnid": (
        lambda r: write_lines(r / "wnids.txt", ["n01", "n03"]),
        r"n02 of train are not in wnids\.txt; extract",
    ),
    "tiny_imagenet-missing-image": (
        lambda r: (r / "val" / "images" / "val_3.JPEG").unlink(),
        r"1 of 6 images .*val_3\.JPEG; extract",
    ),
    "tiny_imagenet-fewer-labels": (
        lambda r: drop_line(r / "val" / "val_annotations.txt"),
        r"val_5\.JPEG is not among those of val/val_annotations\.txt",
    ),
    "tiny_imagenet-no-training-images": (
        lambda r: [file.unlink() for file in (r / "train").rglob("*.JPEG")],
        "tiny-imagenet/train: there is not a single image",
    ),
    "cub-tables": (
        lambda r: drop_line(r / "train_test_split.txt"),
        r"images\.txt, .* do not list the same images; extract",
    ),
    "cub-label": (
        lambda r: drop_line(r / "classes.txt"),
        r"image_class_labels\.txt: labels run from 0 to 2, but the 2 classes .* from 1; extract",
    ),
    "aircraft-unknown-variant": (
        lambda r: drop_line(r / "data" / "variants.txt"),
        r"images_variant_\w+\.txt: F/A-18 not in data/variants\.txt; extract",
    ),
    "aircraft-fewer-labels": (
        lambda r: drop_line(r / "data" / "images_variant_trainval.txt"),
        r"0000017\.jpg is not among the images of data/images_variant_trainval\.txt and",
    ),
    "dogs-list-of-another-kind": (
        lambda r: write_mat(r / "train_list.mat", {"boxes": [1]}),
        r"train_list\.mat has no variable file_list, labels: it is of another data set",
    ),
    "dogs-fewer-labels": (
        lambda r: change_mat(r / "test_list.mat", labels=lambda labels: labels[:-1]),
        r"test_list\.mat has 5 labels for 6 images; extract",
    ),
    "dogs-labels": (
        lambda r: change_mat(r / "test_list.mat", labels=lambda labels: labels + 1),
        r"test_list\.mat do not number the breeds' folders from 1; extract",
    ),
    "dogs-extra-image": (
        lambda r: [extra(r / "Images" / "n02-Pug" / f"{i}.jpg") for i in range(3)],
        r"0\.jpg is not among .* nor are 2 more files; remove",
    ),
    "cars-no-annotations": (
        lambda r: write_mat(r / "cars_annos.mat", {"annotations": [1], "class_names": ["a"]}),
        r"cars_annos\.mat: its annotations lack relative_im_path, class, test; extract",
    ),
    "cars-fewer-labels": (
        lambda r: change_mat(r / "cars_annos.mat", annotations=lambda a: a[:, :-1]),
        r"000018\.jpg is not among the images of cars_annos\.mat; remove",
    ),
    "flowers-fewer-labels": (
        lambda r: change_mat(r / "imagelabels.mat", labels=lambda labels: labels[:, :-1]),
        r"image_00018\.jpg is not among those labelled by imagelabels\.mat; remove",
    ),
    "flowers-set-beyond-the-images": (
        lambda r: change_mat(r / "setid.mat", tstid=lambda ids: ids + 3),
        r"setid\.mat names images 1 to 21, but imagelabels\.mat has labels for 1 to 18; extract",
    ),
    "flowers-overlapping-sets": (
        lambda r: change_mat(r / "setid.mat", valid=lambda ids: ids + 1),
        r"setid\.mat: an image is in two of trnid, valid, tstid; extract",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_archive__is_named_with_the_next_step(fault: str, tmp_path: Path, cache: Path) -> None:
    name, (spoil, message) = fault.partition("-")[0].replace("_", "-"), BAD[fault]
    root = write_archive(name, tmp_path / "official")
    spoil(root)
    errors = {}
    for split in ("train", "test"):
        try:
            load(name, split, root)
        except DataError as error:
            errors[split] = str(error)
    assert any(re.search(message, error) for error in errors.values()), errors
    manifests = {file.stem for file in cache.rglob("prepared/**/*.json")}
    assert not manifests & set(errors)  # nothing half-prepared is taken for prepared


@every_reader
def test_bad_archive__folder_of_another_data_set_is_not_downloaded_into(
    name: str, tmp_path: Path
) -> None:
    other = write_archive("dogs" if name == "cifar100" else "cifar100", tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=rf"{other.name} .*--data-root|not in .*{other.name}"):
        load(name, "train", other)
    assert sorted(tmp_path.rglob("*")) == before


@every_reader
def test_bad_archive__file_of_other_bytes_is_never_opened(
    name: str, tmp_path: Path, cache: Path
) -> None:
    root, (file, content) = write_archive(name, tmp_path), PACKED[name]
    (root / content).rename(tmp_path / "away")
    packed = (root if name in ("cars", "dogs", "flowers") else tmp_path) / file
    packed.write_bytes(b"an archive of another data set, or half of this one")
    with pytest.raises(ChecksumError, match=rf"{file} has md5 \w+, .*; download .* again"):
        load(name, "train", packed.parent)
    assert not list(cache.rglob("*.npy")) and not (cache / "extracted").exists()


@every_reader
def test_bad_archive__is_read_once_it_is_whole(name: str, tmp_path: Path) -> None:
    root, (_, content) = write_archive(name, tmp_path), PACKED[name]
    (root / content).rename(tmp_path / "away")
    message = rf"lacks .*{content}.*; extract|{content}\W.* by hand|by hand .*{content}"
    with pytest.raises(DataError, match=message):
        load(name, "train", tmp_path)
    (tmp_path / "away").rename(root / content)
    load(name, "train", tmp_path)
